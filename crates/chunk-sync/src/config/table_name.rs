//! The name of the table of chunks, as in SQL. Pure.

/// Schema and table; `public` where the text has one name. A name in double quotes may have a dot, and a quote written
/// twice. A name without quotes keeps its upper and lower case: PostgreSQL would fold it, so that `public.Chunk` would
/// never mean the table of that name.
pub(super) fn table_name(text: &str) -> Option<(String, String)> {
    let (first, rest) = name(text.trim())?;
    if rest.is_empty() {
        return Some(("public".to_owned(), first));
    }
    let (second, rest) = name(rest.strip_prefix('.')?)?;
    rest.is_empty().then_some((first, second))
}

/// A name that is not empty, and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (name, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_in_sql_but_keep_their_case() {
        for (text, expected) in [
            ("chunks", Some(("public", "chunks"))),
            ("unified.chunks", Some(("unified", "chunks"))),
            ("public.Chunk", Some(("public", "Chunk"))),
            (r#"public."Chunk""#, Some(("public", "Chunk"))),
            (r#""Data"."my.chunks""#, Some(("Data", "my.chunks"))),
            (r#""a""b""#, Some(("public", "a\"b"))),
            ("", None),
            (".chunks", None),
            ("a.b.c", None),
            (r#""open"#, None),
            (r#""a"b"#, None),
            (r#"a."""#, None),
        ] {
            let expected = expected.map(|(schema, table)| (schema.to_owned(), table.to_owned()));
            assert_eq!(table_name(text), expected, "{text}");
        }
    }
}

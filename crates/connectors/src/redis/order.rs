//! Which entry may be handed out: the chunk of an entry, what processes tell each other of theirs, and the scripts.

use std::collections::HashMap;
use std::sync::LazyLock;

use chunk_sync_engine::ports::EntryId;
use chunk_sync_model::event::Fields;
use redis::Script;
use serde::Deserialize;
use uuid::Uuid;

use super::fault::Error;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("order/common.lua"), include_str!($file))))
    };
}

/// Registers what was read, and asks what others have.
pub(super) static REGISTER: LazyLock<Script> = script!("order/register.lua");
/// Asks which entries are unfinished elsewhere.
pub(super) static UNFINISHED: LazyLock<Script> = script!("order/unfinished.lua");
/// Takes over what dead consumers had.
pub(super) static CLAIM: LazyLock<Script> = script!("order/claim.lua");
/// Forgets what every group has finished.
pub(super) static TRIM: LazyLock<Script> = script!("trim.lua");

/// The chunk that an entry is about; `None` where the entry is no event, and waits for no other.
pub(super) fn chunk_of(fields: &Fields) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Identity {
        id: Uuid,
    }
    let (_, json) = fields.iter().find(|(name, _)| name == b"chunk")?;
    leading_id(json).or_else(|| Some(serde_json::from_slice::<Identity>(json).ok()?.id))
}

/// The id where it comes first, as this project's publishers write it: nothing else has to be parsed then.
fn leading_id(json: &[u8]) -> Option<Uuid> {
    let (id, rest) = json.strip_prefix(br#"{"id":""#)?.split_at_checked(36)?;
    rest.starts_with(b"\"").then(|| Uuid::try_parse_ascii(id).ok())?
}

/// What stands for a chunk in a register: half of its id. Should two share it, one waits for the other needlessly.
pub(super) type Mark = [u8; 8];

pub(super) fn mark_of(chunk: Uuid) -> Mark {
    let [_, _, _, _, _, _, _, _, mark @ ..] = chunk.into_bytes();
    mark
}

/// A page of a register: 24 bytes an entry, milliseconds, sequence (both big-endian) and mark.
pub(super) fn encode_page(entries: &[(EntryId, Mark)]) -> Vec<u8> {
    let words = entries.iter().flat_map(|(id, mark)| [id.millis.to_be_bytes(), id.sequence.to_be_bytes(), *mark]);
    words.flatten().collect()
}

/// The entries of pages by their mark, ascending.
pub(super) fn decode_pages(pages: &[Vec<u8>]) -> Result<HashMap<Mark, Vec<EntryId>>, Error> {
    let mut entries: HashMap<Mark, Vec<EntryId>> = HashMap::new();
    for page in pages {
        let (words, []) = page.as_chunks::<8>() else { return Err(Error::Answer("a register that is none")) };
        let (lines, []) = words.as_chunks::<3>() else { return Err(Error::Answer("a register that is none")) };
        for [millis, sequence, mark] in lines {
            let id = EntryId { millis: u64::from_be_bytes(*millis), sequence: u64::from_be_bytes(*sequence) };
            entries.entry(*mark).or_default().push(id);
        }
    }
    entries.values_mut().for_each(|ids| ids.sort_unstable());
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ID: &str = "6f1c2d3e-0000-4000-8000-00000000000a";

    fn chunk_in(json: &str) -> Option<Uuid> {
        chunk_of(&vec![(b"type".to_vec(), b"update".to_vec()), (b"chunk".to_vec(), json.as_bytes().to_vec())])
    }

    #[test]
    fn the_chunk_is_found_wherever_its_id_stands_and_however_it_is_written() {
        let id = ID.parse().unwrap();
        let plain = ID.replace('-', "");
        for json in [
            format!(r#"{{"id":"{ID}","content":"x"}}"#),
            format!(r#"{{"graph":{{"entities":[{{"id":"e"}}]}}, "id" : "{ID}"}}"#),
            format!(r#"{{"id":"{plain}"}}"#),
            format!(r#"{{"id":"{}"}}"#, ID.to_uppercase()),
        ] {
            assert_eq!(chunk_in(&json), Some(id), "{json}");
        }
    }

    #[test]
    fn what_is_no_event_is_about_no_chunk() {
        for json in ["", "{", r#"{"id":7}"#, r#"{"id":"short"}"#, "[]"] {
            assert_eq!(chunk_in(json), None, "{json}");
        }
        assert_eq!(chunk_of(&Fields::new()), None);
    }

    #[test]
    fn pages_are_read_as_they_were_written() {
        let id = |sequence| EntryId { millis: 1_700_000_000_000, sequence };
        let (one, two) = (mark_of(ID.parse().unwrap()), [7; 8]);
        let pages = [encode_page(&[(id(3), one), (id(u64::MAX), two)]), encode_page(&[(id(1), one)]), encode_page(&[])];
        let read = decode_pages(&pages).unwrap();
        assert_eq!(read, HashMap::from([(one, vec![id(1), id(3)]), (two, vec![id(u64::MAX)])]));
        assert!(decode_pages(&[vec![0; 23]]).is_err());
        assert!(decode_pages(&[vec![0; 16]]).is_err());
    }
}

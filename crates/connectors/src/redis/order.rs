//! Which entry may be handed out: the chunk of an entry, and the scripts that keep the order of each chunk.

use std::sync::LazyLock;

use chunk_sync_model::event::Fields;
use redis::Script;
use serde::Deserialize;
use uuid::Uuid;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("order/list.lua"), include_str!($file))))
    };
}

/// Registers what was read, and says what may be handed out.
pub(super) static REGISTER: LazyLock<Script> = script!("order/register.lua");
/// Acknowledges, and takes what is acknowledged off the lists.
pub(super) static FINISH: LazyLock<Script> = script!("order/finish.lua");
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
}

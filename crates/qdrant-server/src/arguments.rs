//! The command line.

use std::path::PathBuf;

use crate::server::Options;

const USAGE: &str = "usage: chunk-sync-qdrant-server DIR PORT [--version VERSION] [--controlled]\n\
    DIR keeps the collections; PORT 0 takes any free port of loopback; VERSION is the one to announce and behave like.\n\
    The variable QDRANT__SERVICE__API_KEY sets the key that clients must send.";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// Where the collections are kept.
    pub(crate) dir: PathBuf,
    /// Whether commands come from standard input.
    pub(crate) controlled: bool,
    /// How the server behaves.
    pub(crate) options: Options,
}

impl Arguments {
    /// # Errors
    /// Names the argument that is missing, unknown or wrong, with the usage.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut places, mut controlled, mut options) = (Vec::new(), false, Options::default());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--version" => options.version = arguments.next().ok_or_else(|| wrong("--version needs a version"))?,
                "--controlled" => controlled = true,
                flag if flag.starts_with('-') => return Err(wrong(&format!("unknown option `{flag}`"))),
                _ => places.push(argument),
            }
        }
        let [dir, port] = <[String; 2]>::try_from(places).map_err(|_| wrong("a directory and a port are needed"))?;
        options.port = port.parse().map_err(|error| wrong(&format!("`{port}` is no port: {error}")))?;
        // A key on the command line could be read by every user of the machine.
        options.api_key = std::env::var("QDRANT__SERVICE__API_KEY").ok();
        Ok(Self { dir: dir.into(), controlled, options })
    }
}

fn wrong(what: &str) -> String {
    format!("{what}\n{USAGE}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_may_stand_anywhere() {
        let arguments = read("--controlled data --version 1.7.4 6334").unwrap();
        assert!(arguments.controlled);
        assert_eq!(arguments.dir, PathBuf::from("data"));
        assert_eq!((arguments.options.version.as_str(), arguments.options.port), ("1.7.4", 6334));
    }

    #[test]
    fn a_wrong_argument_is_named() {
        for (line, named) in [("data", "a port"), ("data 99999", "99999"), ("data 1 --fast", "--fast"), ("", "DIR")] {
            let error = read(line).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}

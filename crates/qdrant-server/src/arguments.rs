//! The command line.

use std::path::PathBuf;

use crate::server::Options;

const USAGE: &str = "usage: chunk-sync-qdrant-server DIR PORT [--version VERSION] [--controlled]\n\
    DIR holds the collections; PORT 0 takes any free loopback port; VERSION is the version to report and to behave \
    like.\n The environment variable QDRANT__SERVICE__API_KEY sets the key that clients must send.";

/// The parsed command line.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// The directory of the collections.
    pub(crate) dir: PathBuf,
    /// Whether to read commands from standard input.
    pub(crate) controlled: bool,
    /// How the server behaves.
    pub(crate) options: Options,
}

impl Arguments {
    /// Parses the arguments without the program name, and reads the key from the environment.
    ///
    /// # Errors
    /// The missing, unknown or invalid argument, followed by the usage.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut places, mut controlled, mut options) = (Vec::new(), false, Options::default());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--version" => options.version = arguments.next().ok_or_else(|| wrong("--version needs a value"))?,
                "--controlled" => controlled = true,
                flag if flag.starts_with('-') => return Err(wrong(&format!("unknown option `{flag}`"))),
                _ => places.push(argument),
            }
        }
        let [dir, port] = <[String; 2]>::try_from(places).map_err(|_| wrong("expected a directory and a port"))?;
        options.port = port.parse().map_err(|error| wrong(&format!("invalid port `{port}`: {error}")))?;
        // Every user of the machine can read command lines, so the key is not an argument.
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
    fn options_may_be_in_any_place() {
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

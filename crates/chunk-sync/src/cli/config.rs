//! `config`: prints or checks the effective configuration.

use clap::Subcommand;

use super::{Ended, Failure, output};
use crate::config::{Config, Layers};

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Action {
    /// Print the effective configuration and the origin of each value, with secrets hidden.
    Show,
    /// Check the configuration, without connecting to a server.
    Check,
}

pub(super) fn execute(
    action: Action,
    load: impl FnOnce() -> Result<(Config, Layers), Failure>,
    json: bool,
) -> Result<Ended, Failure> {
    let (_, layers) = load()?;
    match (action, json) {
        (Action::Show, true) => output::json(&layers.to_json())?,
        (Action::Show, false) => output::line(layers.to_toml().trim())?,
        (Action::Check, true) => output::json(&serde_json::json!({ "sound": true }))?,
        (Action::Check, false) => output::line("the configuration is valid")?,
    }
    Ok(Ended::Fine)
}

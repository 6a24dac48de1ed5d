//! `init`: creates whatever the service needs and is not there yet.

use chunk_sync_engine::ports::Installed;
use chunk_sync_model::Target;
use clap::Args;

use super::verify::Projection;
use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print what would be run, and run nothing.
    #[arg(long)]
    dry_run: bool,
    /// The installation is to have this store no more: it is taken out of the recorded set with what waits for it. What the
    /// store holds stays there. Its URL must be gone from the configuration.
    #[arg(long, value_name = "STORE", value_enum, conflicts_with = "dry_run")]
    without: Vec<Projection>,
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let (statements, mut installed) = (wiring::statements(config).await?, None);
    if !arguments.dry_run {
        let without: Vec<Target> = arguments.without.iter().map(|store| Target::from(*store)).collect();
        installed = Some(wiring::install(config, &without).await?);
    }
    if json {
        output::json(&serde_json::json!({
            "dry_run": arguments.dry_run, "statements": statements, "installation": installed,
        }))?;
        return Ok(Ended::Fine);
    }
    if arguments.dry_run {
        for (store, statement) in &statements {
            output::line(format_args!("-- {store}\n{statement};"))?;
        }
    } else if let Some(Installed { id, version, stores, filling }) = &installed {
        output::line(format_args!(
            "everything that the service needs is there: {stores}, set {version} of installation {id}"
        ))?;
        for target in filling {
            output::line(format_args!("{target} is new: `chunk-sync run` fills it, and `status` shows the progress"))?;
        }
    }
    Ok(Ended::Fine)
}

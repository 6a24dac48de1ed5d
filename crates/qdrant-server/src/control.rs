//! Commands from the test that started the server, a line each on standard input.

use std::io::{self, BufRead};
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::gate::{Gate, Held};
use crate::report;

/// Follows the commands of standard input, until it ends. An update that is held then is released.
///
/// # Errors
/// For an unknown command, and where the answer cannot be written.
pub(crate) async fn obey(gate: Arc<Gate>) -> io::Result<()> {
    let mut commands = lines();
    let mut held = None;
    while let Some(command) = commands.recv().await {
        match command.as_str() {
            "hold" => {
                held = Some(hold(&gate));
                report("holding")?;
            }
            "release" => {
                held = None;
                report("released")?;
            }
            other => return Err(io::Error::other(format!("unknown command `{other}`: there are hold and release"))),
        }
    }
    drop(held);
    Ok(())
}

/// Holds the next update, and reports when it has arrived.
fn hold(gate: &Gate) -> Held {
    let mut held = gate.hold_next();
    let arrived = held.arrived();
    tokio::spawn(async move {
        if arrived.await.is_ok() {
            // A test that is gone needs no answer.
            let _ = report("held");
        }
    });
    held
}

/// The lines of standard input. The thread that reads them ends with the process: a read cannot be interrupted.
fn lines() -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

//! A panic over one input is a fault of that input, which goes to the dead letters as any other that cannot succeed.
//! Uncaught, the panic would end the process, and again at every start, because the log would replay the same input.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;

use crate::ports::{Fault, FaultClass};

/// The future's output; if it panics, a fault of class `Rejected` with the panic's message. The ports that the future
/// used remain usable: a call that is cut short there has happened wholly or not at all.
pub(crate) async fn catch_panic<T>(context: &'static str, future: impl Future<Output = T>) -> Result<T, Fault> {
    let ended = AssertUnwindSafe(future).catch_unwind().await;
    ended.map_err(|panic| Fault::new(FaultClass::Rejected, context, format!("panicked: {}", message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

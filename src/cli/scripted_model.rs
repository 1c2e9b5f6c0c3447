//! `agentpool scripted-model`. Serves until it is told to stop.

use super::{CliError, Exit, output};
use crate::config::LogFormat;
use crate::scripted_model::ScriptedModel;
use crate::shutdown::Shutdown;
use crate::telemetry;
use std::task::Poll;

/// Arguments of `scripted-model`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A model whose answers are chosen by directives in the prompt (SAY: text, TOOL:write PATH TEXT, SLOW:n, HANG, FAIL:code,
…). It speaks OpenAI (chat/completions and Responses), Anthropic and Gemini. GET /__log shows what it was asked. Point an
agent's provider at the printed address; Anthropic's and Gemini's go without its /v1.")]
pub(super) struct ScriptedModelArgs {
    /// Port on 127.0.0.1 [default: any free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
}

pub(super) async fn run(args: ScriptedModelArgs) -> Result<Exit, CliError> {
    telemetry::init("warn", LogFormat::Text)?;
    // Before the address is printed: whoever reads it may send a signal at once.
    let shutdown = Shutdown::default();
    let signals = shutdown.clone().on_signals();
    tokio::pin!(signals);
    if let Poll::Ready(Err(error)) = futures::poll!(signals.as_mut()) {
        return Err(CliError::Runtime(error));
    }
    let model =
        ScriptedModel::start(args.port).map_err(|source| CliError::Listen { port: args.port, source })?;
    output::line(&model.base_url())?;
    tokio::select! {
        ended = &mut signals => ended.map_err(CliError::Runtime)?,
        () = shutdown.asked() => {}
    }
    model.stop().await;
    Ok(Exit::Done)
}

//! What the agent asks of its client besides permissions: files and terminals. It asks whether or not the client offers
//! them, as real agents were seen to do.

use crate::session::locked;
use crate::turn::{Cut, Turn};
use agent_client_protocol::v1::schema::{
    CreateTerminalRequest, ReadTextFileRequest, ReleaseTerminalRequest, TerminalOutputRequest,
    WaitForTerminalExitRequest, WriteTextFileRequest,
};
use agent_client_protocol::{Error, JsonRpcRequest};
use std::path::PathBuf;

impl Turn {
    pub(crate) async fn client_write(&mut self, rest: &str) -> Result<(), Cut> {
        let (path, content) = rest.split_once(' ').unwrap_or((rest, ""));
        let content = format!("{}\n", content.trim());
        let request = WriteTextFileRequest::new(self.session.id.clone(), self.absolute(path), content);
        let told = match self.ask(request).await? {
            Ok(_) => format!("written {path}"),
            Err(error) => refused(&error),
        };
        self.say(&told);
        Ok(())
    }

    pub(crate) async fn client_read(&mut self, path: &str) -> Result<(), Cut> {
        let request = ReadTextFileRequest::new(self.session.id.clone(), self.absolute(path));
        let told = match self.ask(request).await? {
            Ok(response) => response.content,
            Err(error) => refused(&error),
        };
        self.say(&told);
        Ok(())
    }

    pub(crate) async fn terminal(&mut self, command: &str) -> Result<(), Cut> {
        let session = self.session.id.clone();
        let create = CreateTerminalRequest::new(session.clone(), "sh")
            .args(vec!["-c".to_owned(), command.to_owned()])
            .cwd(self.absolute(""))
            .output_byte_limit(64 << 10);
        let terminal = match self.ask(create).await? {
            Ok(created) => created.terminal_id,
            Err(error) => {
                self.say(&refused(&error));
                return Ok(());
            }
        };
        let ended = self.ask(WaitForTerminalExitRequest::new(session.clone(), terminal.clone())).await?;
        let output = self.ask(TerminalOutputRequest::new(session.clone(), terminal.clone())).await?;
        let released = self.ask(ReleaseTerminalRequest::new(session, terminal)).await?;
        let told = match (ended, output, released) {
            (Ok(ended), Ok(output), Ok(_)) => {
                let cut = if output.truncated { " (truncated)" } else { "" };
                let how = match (ended.exit_status.exit_code, ended.exit_status.signal) {
                    (Some(code), _) => format!("exit {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "no exit told".to_owned(),
                };
                format!("{}{cut} [{how}]", output.output)
            }
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => refused(&error),
        };
        self.say(&told);
        Ok(())
    }

    async fn ask<R: JsonRpcRequest>(&mut self, request: R) -> Result<Result<R::Response, Error>, Cut> {
        let asked = self.client.send_request(request).block_task();
        self.unless_cancelled(asked).await
    }

    fn absolute(&self, path: &str) -> PathBuf {
        locked(&self.session.conversation).cwd.join(path)
    }
}

fn refused(error: &Error) -> String {
    format!("the client refused: {error}")
}

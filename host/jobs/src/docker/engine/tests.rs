use super::*;
use async_trait::async_trait;
use springtide_machines::{ByteStream, ConnectError, HelperProcess};
use tokio::io::AsyncWriteExt;

/// A machine whose engine takes connections, and what it does with them.
#[derive(Clone, Copy, Debug)]
enum Machine {
    Hangs,
    Says(&'static str),
}

#[async_trait]
impl Connection for Machine {
    async fn helper(&self, _: &[&str]) -> Result<HelperProcess, ConnectError> {
        Err(ConnectError::Refused {
            machine: "the machine".into(),
            why: "no test starts one".into(),
        })
    }

    fn home(&self) -> &str {
        "/"
    }

    async fn socket(&self, _: &str) -> Result<ByteStream, ConnectError> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let machine = *self;
        tokio::spawn(async move {
            match machine {
                Machine::Hangs => std::future::pending().await,
                Machine::Says(text) => theirs.write_all(text.as_bytes()).await,
            }
        });
        Ok(Box::new(ours))
    }

    async fn helper_path(&self) -> Result<String, ConnectError> {
        Ok("/helper".into())
    }

    fn shares_engine(&self) -> bool {
        false
    }
}

async fn architecture(machine: Machine) -> EngineError {
    let engine = Engine {
        patience: Duration::from_millis(300),
        ..Engine::new(Arc::new(machine), SOCKET)
    };
    engine.architecture().await.expect_err("an engine's fault")
}

#[tokio::test]
async fn an_engine_that_hangs_is_waited_for_so_long_and_no_longer() {
    let error = architecture(Machine::Hangs).await;
    assert!(matches!(error, EngineError::Hung { .. }), "{error:?}");
}

#[tokio::test]
async fn an_engine_that_speaks_nonsense_or_hangs_up_is_out_of_order() {
    for said in [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"Api",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    ] {
        let error = architecture(Machine::Says(said)).await;
        let its_own = matches!(
            error,
            EngineError::Unreachable { .. } | EngineError::Failed { .. }
        );
        assert!(its_own, "{said:?}: {error:?}");
    }
}

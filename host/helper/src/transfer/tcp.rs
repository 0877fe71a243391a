//! Connections whose peer may answer before a request is sent to its end. GitLab, and proxies before
//! it, refuse an upload that is too large in the middle of it and close the connection. A write then
//! fails while the answer with the reason waits to be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Wraps the connections below it.
#[derive(Debug)]
pub(super) struct Forgiving {
    /// Set when the peer takes no more: whoever sends may stop.
    pub(super) gone: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for Forgiving {
    type Out = Connection<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        self.gone.store(false, Ordering::Relaxed);
        Ok(chained.map(|inner| Connection {
            inner,
            gone: Arc::clone(&self.gone),
        }))
    }
}

/// A connection that swallows what the peer no longer takes.
#[derive(Debug)]
pub(super) struct Connection<In> {
    inner: In,
    gone: Arc<AtomicBool>,
}

impl<In: Transport> Transport for Connection<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        if self.gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(error)) if matches!(error.kind(), BrokenPipe | ConnectionReset) => {
                self.gone.store(true, Ordering::Relaxed);
                Ok(())
            }
            done => done,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        !self.gone.load(Ordering::Relaxed) && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

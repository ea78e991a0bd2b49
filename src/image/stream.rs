//! One blob as a blocking reader over skopeo's pipe.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::Poll;

use containers_image_proxy::{BlobStream, Error};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::runtime::Runtime;

use crate::image::remote::said;

/// What drives skopeo's half of a blob's transfer.
type Driver<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// A blob being read.
///
/// skopeo closes its end of the pipe only once it has been asked for the blob's outcome, so the question is under
/// way from the first read on: waiting for the end first would wait forever, also on a blob that is shorter than
/// announced.
pub(crate) struct BlobReader<'a> {
    runtime: &'a Runtime,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    driver: Option<Driver<'a>>,
}

impl<'a> BlobReader<'a> {
    pub(crate) fn new(runtime: &'a Runtime, stream: BlobStream<'a>) -> Self {
        let (reader, driver) = stream.into_parts();
        Self {
            runtime,
            reader,
            driver: Some(driver),
        }
    }

    /// Reads what is left and returns skopeo's verdict on size and digest.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        match self.driver.take() {
            Some(driver) => self
                .runtime
                .block_on(driver)
                .map_err(|error| io::Error::other(said(&error))),
            None => Ok(()),
        }
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (reader, driver) = (&mut self.reader, &mut self.driver);
        self.runtime.block_on(std::future::poll_fn(|cx| {
            if let Some(Poll::Ready(verdict)) = driver.as_mut().map(|d| d.as_mut().poll(cx)) {
                *driver = None;
                verdict.map_err(|error| io::Error::other(said(&error)))?;
            }
            let mut buffer = ReadBuf::new(buffer);
            match Pin::new(&mut *reader).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        }))
    }
}

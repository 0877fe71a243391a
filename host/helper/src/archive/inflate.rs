//! The content of an entry, unpacked through buffers that are used again and never beyond the size
//! it tells.

use super::read::UnpackError;
use flate2::{Decompress, FlushDecompress, Status};
use rawzip::CompressionMethod;
use std::io::Read;
use zstd::stream::raw::{self, DParameter, InBuffer, Operation, OutBuffer};

/// The most of what came before that packed bytes may refer to, as a power of two: 32 MiB, the most
/// that GitLab Runner's library does.
pub(super) const WINDOW: u32 = 25;

/// What unpacking works with.
pub(crate) struct Buffers {
    inflate: Decompress,
    zstd: Option<raw::Decoder<'static>>,
    packed: Vec<u8>,
    raw: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            inflate: Decompress::new(false),
            zstd: None,
            packed: vec![0; 64 << 10],
            raw: vec![0; 256 << 10],
        }
    }
}

/// Unpacks `reader` to `to` and returns the checksum.
///
/// # Errors
/// Where it is not `size` bytes long in the end, or not packed so.
pub(crate) fn content(
    reader: &mut dyn Read,
    method: CompressionMethod,
    size: u64,
    buffers: &mut Buffers,
    to: &mut dyn FnMut(&[u8]) -> Result<(), UnpackError>,
) -> Result<u32, UnpackError> {
    let mut output = Output {
        crc: crc32fast::Hasher::new(),
        left: size,
        to,
    };
    match method {
        CompressionMethod::DEFLATE => inflate(reader, buffers, &mut output)?,
        CompressionMethod::ZSTD => zstd(reader, buffers, &mut output)?,
        _ => loop {
            let read = read(reader, &mut buffers.raw)?;
            if read == 0 {
                break;
            }
            output.push(&buffers.raw[..read])?;
        },
    }
    if output.left > 0 {
        return Err(broken("it is shorter than it says"));
    }
    Ok(output.crc.finalize())
}

fn inflate(
    reader: &mut dyn Read,
    buffers: &mut Buffers,
    output: &mut Output<'_>,
) -> Result<(), UnpackError> {
    let Buffers {
        inflate,
        packed,
        raw,
        ..
    } = buffers;
    inflate.reset(false);
    let (mut at, mut filled) = (0, 0);
    loop {
        if at == filled {
            (at, filled) = (0, read(reader, packed)?);
        }
        let (read_before, written_before) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(&packed[at..filled], raw, FlushDecompress::None)
            .map_err(|_| broken("it is no deflate stream"))?;
        // Both are within the buffers, which are small.
        let consumed = (inflate.total_in() - read_before) as usize;
        let written = (inflate.total_out() - written_before) as usize;
        at += consumed;
        output.push(&raw[..written])?;
        if status == Status::StreamEnd {
            return Ok(());
        }
        if consumed == 0 && written == 0 && filled == 0 {
            return Err(broken("it ends too early"));
        }
    }
}

/// Frames of Zstandard, one after the other.
fn zstd(
    reader: &mut dyn Read,
    buffers: &mut Buffers,
    output: &mut Output<'_>,
) -> Result<(), UnpackError> {
    let no_stream = |_| broken("it is no stream of Zstandard");
    let decoder = match &mut buffers.zstd {
        Some(decoder) => {
            decoder.reinit().map_err(no_stream)?;
            decoder
        }
        none => {
            let mut decoder = raw::Decoder::new().map_err(no_stream)?;
            decoder
                .set_parameter(DParameter::WindowLogMax(WINDOW))
                .map_err(no_stream)?;
            none.insert(decoder)
        }
    };
    let mut within = false;
    loop {
        let filled = read(reader, &mut buffers.packed)?;
        if filled == 0 {
            return match within {
                true => Err(broken("it ends too early")),
                false => Ok(()),
            };
        }
        let mut input = InBuffer::around(&buffers.packed[..filled]);
        loop {
            let mut raw = OutBuffer::around(&mut buffers.raw[..]);
            // What is left of a frame; nothing at its end.
            within = decoder.run(&mut input, &mut raw).map_err(no_stream)? > 0;
            let written = raw.pos();
            output.push(&buffers.raw[..written])?;
            // At the end of a frame nothing is held back; asked again, it would wait for another.
            if input.pos == filled && (written < buffers.raw.len() || !within) {
                break;
            }
        }
    }
}

fn read(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, UnpackError> {
    reader.read(buffer).map_err(|error| UnpackError::Machine {
        doing: "reading the archive".to_owned(),
        error,
    })
}

struct Output<'a> {
    crc: crc32fast::Hasher,
    left: u64,
    to: &'a mut dyn FnMut(&[u8]) -> Result<(), UnpackError>,
}

impl Output<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| broken("it is longer than it says"))?;
        self.crc.update(bytes);
        (self.to)(bytes)
    }
}

fn broken(why: &str) -> UnpackError {
    UnpackError::Broken(why.to_owned())
}

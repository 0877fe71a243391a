//! The content of an entry, unpacked through buffers that are used again and never beyond the size
//! it tells.

use super::read::UnpackError;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::Read;

/// What unpacking works with.
pub(crate) struct Buffers {
    inflate: Decompress,
    packed: Vec<u8>,
    raw: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            inflate: Decompress::new(false),
            packed: vec![0; 64 << 10],
            raw: vec![0; 256 << 10],
        }
    }
}

/// Unpacks `reader` to `to` and returns the checksum.
///
/// # Errors
/// Where it is not `size` bytes long in the end, or no deflate stream.
pub(crate) fn content(
    reader: &mut dyn Read,
    deflated: bool,
    size: u64,
    buffers: &mut Buffers,
    to: &mut dyn FnMut(&[u8]) -> Result<(), UnpackError>,
) -> Result<u32, UnpackError> {
    let mut output = Output {
        crc: crc32fast::Hasher::new(),
        left: size,
        to,
    };
    if deflated {
        inflate(reader, buffers, &mut output)?;
    } else {
        loop {
            let read = read(reader, &mut buffers.raw)?;
            if read == 0 {
                break;
            }
            output.push(&buffers.raw[..read])?;
        }
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

//! The frames of `follow`: a kind (1 byte), a length (4 bytes, big-endian), that many bytes.
//!
//! The first frame tells the offset from which output comes, the last how the work ended. In
//! between comes output, and a pulse where there is none for a while, so that either side sees
//! when the other is gone.

/// The largest payload; a longer one is a fault of the stream.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Bytes before the payload.
pub const HEADER: usize = 5;

/// Seconds without output after which a pulse is sent.
pub const PULSE_SECONDS: u64 = 10;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// The offset of the first byte of output: 8 bytes, big-endian.
    Start,
    /// Output.
    Output,
    /// Nothing; the work is quiet.
    Pulse,
    /// An [`Ending`](crate::Ending) as JSON. The last frame.
    End,
    /// A [`Fault`](crate::Fault) as JSON. The last frame.
    Fault,
}

impl FrameKind {
    const ALL: [(u8, FrameKind); 5] = [
        (b'S', FrameKind::Start),
        (b'O', FrameKind::Output),
        (b'P', FrameKind::Pulse),
        (b'E', FrameKind::End),
        (b'F', FrameKind::Fault),
    ];

    fn byte(self) -> u8 {
        match self {
            FrameKind::Start => b'S',
            FrameKind::Output => b'O',
            FrameKind::Pulse => b'P',
            FrameKind::End => b'E',
            FrameKind::Fault => b'F',
        }
    }
}

/// The bytes before a payload. A payload is at most [`MAX_PAYLOAD`] long.
#[must_use]
pub fn header(kind: FrameKind, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= MAX_PAYLOAD);
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [kind.byte(), a, b, c, d]
}

/// Reads the bytes before a payload; nothing, where they are not those of a frame.
#[must_use]
pub fn read_header(bytes: [u8; HEADER]) -> Option<(FrameKind, usize)> {
    let [kind, a, b, c, d] = bytes;
    let (_, kind) = FrameKind::ALL.into_iter().find(|(byte, _)| *byte == kind)?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (length <= MAX_PAYLOAD).then_some((kind, length))
}

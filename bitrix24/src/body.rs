//! Reads a body as it arrives, unpacked, and no further than its limits: [`Body`].
//!
//! It is unpacked here and not by the HTTP client, because only who sees both sides can tell how much was sent for what it
//! has become. Above it stands [`crate::transport`]; the limits and their reasons are in [`crate::size`].

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

use crate::size::{Excess, RATIO_FROM_BYTES, RATIO_MAX};

/// How much is taken at a time, in bytes as they are sent: gzip makes up to 256 KiB of it.
pub(crate) const PART_BYTES: usize = 256;

/// Why a body is not read to its end.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It is too much.
    Excessive(Excess),
    /// It is not what its header says: broken off, or not packed by gzip.
    Broken(io::Error),
}

/// A body that is on its way.
pub(crate) enum Body {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

/// What has arrived of it, unpacked.
#[derive(Debug)]
pub(crate) struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// As they were sent.
    sent: usize,
    excess: Option<Excess>,
}

impl Body {
    /// A body of at most `bytes_max`, unpacked.
    pub(crate) fn new(is_gzip: bool, bytes_max: usize) -> Self {
        let bounded = Bounded { bytes: Vec::new(), bytes_max, sent: 0, excess: None };
        if is_gzip { Self::Gzip(Box::new(MultiGzDecoder::new(bounded))) } else { Self::Plain(bounded) }
    }

    /// Takes the next [`PART_BYTES`] at the most, as they were sent.
    pub(crate) fn take(&mut self, part: &[u8]) -> Result<(), BodyError> {
        self.bounded_mut().sent += part.len();
        let taken = match self {
            Self::Plain(bounded) => bounded.write_all(part),
            Self::Gzip(decoder) => decoder.write_all(part),
        };
        taken.map_err(|error| self.error(error))
    }

    /// How long it is so far, unpacked.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(bounded) => bounded.bytes.len(),
            Self::Gzip(decoder) => decoder.get_ref().bytes.len(),
        }
    }

    /// The whole of it, when nothing more comes.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, BodyError> {
        if let Self::Gzip(decoder) = &mut self
            && decoder.get_ref().sent > 0
            && let Err(error) = decoder.try_finish()
        {
            return Err(self.error(error));
        }
        Ok(std::mem::take(&mut self.bounded_mut().bytes))
    }

    fn bounded_mut(&mut self) -> &mut Bounded {
        match self {
            Self::Plain(bounded) => bounded,
            Self::Gzip(decoder) => decoder.get_mut(),
        }
    }

    fn error(&mut self, error: io::Error) -> BodyError {
        self.bounded_mut().excess.map_or(BodyError::Broken(error), BodyError::Excessive)
    }
}

impl Write for Bounded {
    fn write(&mut self, unpacked: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + unpacked.len();
        if length > self.bytes_max {
            self.excess = Some(Excess::Bytes(self.bytes_max));
        } else if length > RATIO_FROM_BYTES && length > RATIO_MAX * self.sent {
            self.excess = Some(Excess::Ratio);
        }
        if let Some(excess) = self.excess {
            return Err(io::Error::other(excess));
        }
        self.bytes.extend_from_slice(unpacked);
        Ok(unpacked.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::size::LARGE_ANSWER_BYTES;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// What is read of it, and how much of it was held when it ended.
    fn read(is_gzip: bool, sent: &[u8], bytes_max: usize) -> (Result<Vec<u8>, BodyError>, usize) {
        let mut body = Body::new(is_gzip, bytes_max);
        for part in sent.chunks(PART_BYTES) {
            if let Err(error) = body.take(part) {
                let held = body.len();
                return (Err(error), held);
            }
        }
        let held = body.len();
        (body.finish(), held)
    }

    #[test]
    fn a_body_is_read_as_it_is_or_unpacked() {
        let text = r#"{"result":[]}"#.repeat(1000).into_bytes();
        assert_eq!(read(false, &text, text.len()).0.unwrap(), text);
        assert_eq!(read(true, &packed(&text), text.len()).0.unwrap(), text);
        let halves = [packed(&text[..500]), packed(&text[500..])].concat();
        assert_eq!(read(true, &halves, text.len()).0.unwrap(), text, "gzip may come in several pieces");
        assert!(read(true, b"", 10).0.unwrap().is_empty(), "a redirect has no body");
    }

    #[test]
    fn no_more_is_read_than_the_limit() {
        // Random enough that it is packed to about half.
        let mut seed = 1_u32;
        let mut noise = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"0123456789abcdef"[(seed >> 28) as usize]
        };
        let text: Vec<u8> = (0..300_000).map(|_| noise()).collect();
        for (is_gzip, sent) in [(false, text.clone()), (true, packed(&text))] {
            assert!(read(is_gzip, &sent, 300_000).0.is_ok(), "gzip: {is_gzip}");
            let (ended, held) = read(is_gzip, &sent, 299_999);
            assert!(
                matches!(ended, Err(BodyError::Excessive(Excess::Bytes(299_999)))),
                "gzip: {is_gzip}, {ended:?}"
            );
            assert!(held <= 299_999, "{held}");
        }
    }

    #[test]
    fn what_unpacks_to_far_too_much_is_given_up() {
        let bomb = packed(r#"{"a":0},"#.repeat(2_000_000).as_bytes());
        assert!(bomb.len() < 60_000, "16 MB from {}", bomb.len());
        let (ended, held) = read(true, &bomb, LARGE_ANSWER_BYTES);
        assert!(matches!(ended, Err(BodyError::Excessive(Excess::Ratio))), "{ended:?}");
        assert!(held <= RATIO_FROM_BYTES, "{held}");
        // A short answer may be as monotonous as it likes.
        let short = vec![b' '; RATIO_FROM_BYTES];
        assert_eq!(read(true, &packed(&short), LARGE_ANSWER_BYTES).0.unwrap(), short);
    }

    #[test]
    fn what_is_broken_off_or_no_gzip_is_broken() {
        let whole = packed(&[b'x'; 1000]);
        for sent in [&whole[..whole.len() - 1], &whole[..5], b"{\"result\":true}"] {
            assert!(matches!(read(true, sent, 2000).0, Err(BodyError::Broken(_))), "{sent:?}");
        }
    }
}

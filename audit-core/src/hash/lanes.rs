//! Many messages at once: SHA-256 of up to sixteen messages side by side.
//!
//! One message is a chain of compressions, each waiting for the one before, and even with the
//! instructions made for SHA-256 most of a core stays idle. Independent messages fill it: with
//! AVX-512 the same word of sixteen states lies in one register. A lane whose message has ended
//! takes the next one. Without AVX-512, and for the last few messages, each is hashed on its own.

use sha2::{Digest as _, Sha256, block_api::compress256};

use super::Hash;

/// How many messages are hashed side by side.
pub(super) const LANES: usize = 16;
/// Below so many lanes in use, one message after the other is faster.
#[cfg(target_arch = "x86_64")]
pub(super) const FEWEST: usize = 5;
const BLOCK: usize = 64;

/// The state before the first block (FIPS 180-4 section 5.3.3).
pub(super) const START: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

pub(super) type State = [u32; 8];

/// Bytes to be hashed: a prefix of at most 64 bytes and what follows it.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) prefix: &'a [u8],
    pub(crate) bytes: &'a [u8],
}

/// The SHA-256 of each message.
pub(crate) fn digests(messages: &[Message<'_>]) -> Vec<Hash> {
    #[cfg(target_arch = "x86_64")]
    if messages.len() >= FEWEST
        && let Some(hashes) = super::avx512::digests(messages)
    {
        return hashes;
    }
    messages.iter().map(Message::digest).collect()
}

/// The leaf hash of each event and the HMAC-SHA256 of each text under its key.
pub(crate) fn leaves_and_macs(
    events: &[&[u8]],
    texts: &[(&[u8; 32], &[u8])],
) -> (Vec<Hash>, Vec<Hash>) {
    let pads = |with: u8| texts.iter().map(|(key, _)| pad(key, with)).collect::<Vec<_>>();
    let (inner, outer) = (pads(0x36), pads(0x5c));
    let leaves = events.iter().map(|event| Message { prefix: &[0x00], bytes: event });
    let inner = inner.iter().zip(texts).map(|(pad, (_, bytes))| Message { prefix: pad, bytes });
    let mut hashes = digests(&inner.chain(leaves).collect::<Vec<_>>());
    let leaves = hashes.split_off(texts.len());
    let outer = outer.iter().zip(&hashes);
    let outer = outer.map(|(pad, inner)| Message { prefix: pad, bytes: inner.as_bytes() });
    (leaves, digests(&outer.collect::<Vec<_>>()))
}

/// The first block of the inner or outer hash of an HMAC (RFC 2104 section 2).
fn pad(key: &[u8; 32], with: u8) -> [u8; BLOCK] {
    let mut block = [with; BLOCK];
    block.iter_mut().zip(key).for_each(|(block, key)| *block ^= key);
    block
}

impl Message<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.prefix.len() + self.bytes.len()
    }

    /// How many blocks are compressed: behind the message comes a bit, and its length at the end.
    #[inline(always)]
    pub(super) fn blocks(&self) -> usize {
        (self.len() + 9).div_ceil(BLOCK)
    }

    /// Writes one of the blocks.
    #[inline(always)]
    pub(super) fn write_block(&self, index: usize, block: &mut [u8; BLOCK]) {
        if let Some(at) = (index * BLOCK).checked_sub(self.prefix.len())
            && let Some(rest) = self.bytes.get(at..)
            && let Some(whole) = rest.first_chunk()
        {
            *block = *whole;
        } else if index == 0
            && let Some(whole) = self.prefix.first_chunk()
        {
            *block = *whole;
        } else if index == 0
            && let [first] = self.prefix
            && let Some(rest) = self.bytes.first_chunk::<{ BLOCK - 1 }>()
        {
            block[0] = *first;
            block[1..].copy_from_slice(rest);
        } else {
            self.write_edge(index, block);
        }
    }

    /// Writes a block that does not come from the bytes alone.
    fn write_edge(&self, index: usize, block: &mut [u8; BLOCK]) {
        *block = [0; BLOCK];
        let start = index * BLOCK;
        let mut filled = 0;
        for (piece, first) in [(self.prefix, 0), (self.bytes, self.prefix.len())] {
            let rest = piece.get((start + filled).saturating_sub(first)..).unwrap_or_default();
            let taken = rest.len().min(BLOCK - filled);
            block[filled..filled + taken].copy_from_slice(&rest[..taken]);
            filled += taken;
        }
        if filled < BLOCK && start + filled == self.len() {
            block[filled] = 0x80;
        }
        if index + 1 == self.blocks() {
            // A length in memory has fewer than 2^61 bytes.
            let bits = (self.len() as u64).wrapping_mul(8);
            block[BLOCK - 8..].copy_from_slice(&bits.to_be_bytes());
        }
    }

    fn digest(&self) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(self.prefix);
        hasher.update(self.bytes);
        Hash(hasher.finalize().into())
    }

    /// Hashes the blocks from one on, behind the state that those before it left.
    pub(super) fn finish(&self, mut state: State, from: usize) -> Hash {
        let mut block = [0; BLOCK];
        for index in from..self.blocks() {
            self.write_block(index, &mut block);
            compress256(&mut state, &[block]);
        }
        hash_of(state)
    }
}

#[inline(always)]
pub(super) fn hash_of(state: State) -> Hash {
    let mut bytes = [0; 32];
    let (words, _) = bytes.as_chunks_mut::<4>();
    words.iter_mut().zip(state).for_each(|(bytes, word)| *bytes = word.to_be_bytes());
    Hash(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use proptest::prelude::*;

    use super::*;

    fn plain(message: &Message<'_>) -> Hash {
        Hash(Sha256::digest([message.prefix, message.bytes].concat()).into())
    }

    fn ramp(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from((at * 7 + seed * 13) % 251).unwrap()).collect()
    }

    #[test]
    fn every_length_behind_every_prefix_is_the_hash_of_the_library() {
        for prefix in [0, 1, 2, 55, 63, 64] {
            let prefix = ramp(prefix, 99);
            let bytes: Vec<_> = (0..300).map(|len| ramp(len, len)).collect();
            let messages: Vec<_> =
                bytes.iter().map(|bytes| Message { prefix: &prefix, bytes }).collect();
            let expected: Vec<_> = messages.iter().map(plain).collect();
            assert_eq!(digests(&messages), expected);
            // Lanes that begin together and end together, too few for the lanes, and none.
            for same in messages.iter().step_by(31) {
                for count in 0..20 {
                    assert_eq!(digests(&vec![*same; count]), vec![plain(same); count]);
                }
            }
            for message in &messages {
                assert_eq!(message.finish(START, 0), plain(message));
            }
        }
    }

    proptest! {
        #[test]
        fn messages_of_any_lengths_keep_their_own_hash(
            messages in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..=64), prop::collection::vec(any::<u8>(), 0..700)),
                0..60,
            ),
        ) {
            let messages: Vec<_> =
                messages.iter().map(|(prefix, bytes)| Message { prefix, bytes }).collect();
            let expected: Vec<_> = messages.iter().map(plain).collect();
            prop_assert_eq!(digests(&messages), expected);
        }

        #[test]
        fn leaves_and_macs_are_those_of_one_at_a_time(
            events in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
            texts in prop::collection::vec((any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), 0..300)), 0..40),
        ) {
            let events: Vec<_> = events.iter().map(Vec::as_slice).collect();
            let texts: Vec<_> = texts.iter().map(|(key, text)| (key, text.as_slice())).collect();
            let (leaves, macs) = leaves_and_macs(&events, &texts);
            prop_assert_eq!(leaves, events.iter().map(|e| crate::hash::leaf(e)).collect::<Vec<_>>());
            for ((key, text), mac) in texts.iter().zip(&macs) {
                let mut expected = Hmac::<Sha256>::new_from_slice(&key[..]).unwrap();
                expected.update(text);
                prop_assert_eq!(mac.as_bytes(), &<[u8; 32]>::from(expected.finalize().into_bytes()));
            }
            prop_assert_eq!(macs.len(), texts.len());
        }
    }
}

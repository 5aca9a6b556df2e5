//! The part of a string that is the same inside and outside of JSON.

/// How many bytes from the start need no look: no quotation mark, backslash or control character.
///
/// Eight bytes at a time (the word tricks of Hacker's Delight, section 6-1): a high bit remains in
/// each byte that is below 0x20 or equal to a mark, and the lowest such bit is exact.
#[inline]
pub(super) fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, tail) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let backslash = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        let hit = (control | quote | backslash) & HIGHS;
        if hit != 0 {
            return at * 8 + usize::try_from(hit.trailing_zeros() / 8).expect("below eight");
        }
    }
    let plain = tail.iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count();
    words.len() * 8 + plain
}

/// How many bytes have one bit each in a word of [`Marks`].
const WORD: usize = 64;
/// How many words: enough for nearly every event.
const WORDS: usize = 32;

/// Where a text has bytes that need a look: one bit for each of its first bytes, found sixty-four at
/// a time where the processor can.
pub(super) struct Marks {
    words: [u64; WORDS],
    count: usize,
}

impl Marks {
    /// Nothing is known of the text.
    pub(super) const NONE: Self = Self { words: [0; WORDS], count: 0 };

    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut marks = Self::NONE;
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V4::try_new() {
            let (blocks, _) = bytes.as_chunks();
            let blocks = &blocks[..blocks.len().min(WORDS)];
            simd.vectorize(avx512::Mark { simd, blocks, words: &mut marks.words });
            marks.count = blocks.len();
        }
        marks
    }

    /// The first byte at or behind `from` that needs a look; the end where there is none.
    #[inline]
    pub(super) fn next(&self, bytes: &[u8], mut from: usize) -> usize {
        let known = self.words.get(..self.count).unwrap_or_default();
        let mut bits = from % WORD;
        for (at, word) in known.iter().enumerate().skip(from / WORD) {
            let ahead = word >> bits << bits;
            if ahead != 0 {
                return at * WORD + usize::try_from(ahead.trailing_zeros()).expect("below 64");
            }
            bits = 0;
            from = (at + 1) * WORD;
        }
        from + plain_prefix(&bytes[from..])
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use core::arch::x86_64::__m512i;

    use pulp::{NullaryFnOnce, cast, x86::V4};

    use super::{WORD, WORDS};

    pub(super) struct Mark<'a> {
        pub(super) simd: V4,
        pub(super) blocks: &'a [[u8; WORD]],
        pub(super) words: &'a mut [u64; WORDS],
    }

    impl NullaryFnOnce for Mark<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let bw = self.simd.avx512bw;
            let all = |byte: u8| -> __m512i { cast([byte; WORD]) };
            let (control, quote, backslash) = (all(0x20), all(b'"'), all(b'\\'));
            for (word, block) in self.words.iter_mut().zip(self.blocks) {
                let block: __m512i = cast(*block);
                *word = bw._mm512_cmplt_epu8_mask(block, control)
                    | bw._mm512_cmpeq_epi8_mask(block, quote)
                    | bw._mm512_cmpeq_epi8_mask(block, backslash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_prefix_is_exact(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let slow = bytes.iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count();
            prop_assert_eq!(plain_prefix(&bytes), slow);
        }

        #[test]
        fn marks_are_where_a_look_is_needed(
            bytes in prop::collection::vec(prop_oneof![9 => b'a'..=b'z', 1 => any::<u8>()], 0..3_000),
            from: prop::sample::Index,
        ) {
            let from = from.index(bytes.len() + 1);
            let next = from + plain_prefix(&bytes[from..]);
            prop_assert_eq!(Marks::of(&bytes).next(&bytes, from), next);
            prop_assert_eq!(Marks::NONE.next(&bytes, from), next);
        }
    }
}

//! Keys that are likely to come, recognised by words and not byte by byte.

/// How many bytes are compared at once: the longest key with its quotation marks and colon.
const WINDOW: usize = 24;

/// A key that is likely to come, and what it stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<T> {
    name: T,
    text: &'static [u8],
    /// The key as it stands in JSON, with its colon.
    words: [u64; WINDOW / 8],
    /// Which bits of the words count.
    masks: [u64; WINDOW / 8],
}

/// The key at the start of `input`, where it is one of `keys` from index `from` on: its index, what
/// it stands for, and its text.
///
/// Close to the end of the input a key is not recognised: [`named`] does.
#[inline(always)]
pub(super) fn find<'a, T: Copy>(
    keys: &[Key<T>],
    from: usize,
    input: &'a [u8],
) -> Option<(usize, T, &'a [u8])> {
    let (window, _) = input.split_first_chunk::<WINDOW>()?;
    let words = words(window);
    let here = |key: &Key<T>| {
        let differs = |at: usize| (words[at] ^ key.words[at]) & key.masks[at];
        differs(0) | differs(1) | differs(2) == 0
    };
    let index = from + keys.get(from..)?.iter().position(here)?;
    let key = &keys[index];
    Some((index, key.name, window.get(1..=key.text.len())?))
}

/// The index of the key of this text, and what it stands for.
pub(super) fn named<T: Copy>(keys: &[Key<T>], text: &[u8]) -> Option<(usize, T)> {
    let index = keys.iter().position(|key| key.text == text)?;
    Some((index, keys[index].name))
}

impl<T> Key<T> {
    pub(super) const fn new(name: T, text: &'static [u8]) -> Self {
        assert!(text.len() + 3 <= WINDOW, "the window has room for every likely key");
        let (mut json, mut mask) = ([0; WINDOW], [0; WINDOW]);
        let mut at = 0;
        while at < text.len() + 3 {
            json[at] = match at.checked_sub(text.len() + 1) {
                Some(0) => b'"',
                Some(_) => b':',
                None if at == 0 => b'"',
                None => text[at - 1],
            };
            mask[at] = 0xff;
            at += 1;
        }
        Self { name, text, words: words(&json), masks: words(&mask) }
    }
}

#[inline(always)]
const fn words(bytes: &[u8; WINDOW]) -> [u64; WINDOW / 8] {
    let (chunks, _) = bytes.as_chunks::<8>();
    let mut words = [0; WINDOW / 8];
    let mut at = 0;
    while at < words.len() {
        words[at] = u64::from_le_bytes(chunks[at]);
        at += 1;
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const KEYS: [Key<char>; 3] =
        [Key::new('a', b"a"), Key::new('b', b"previous_event_hash"), Key::new('c', b"c")];

    #[test]
    fn a_key_is_found_whole_and_ahead_alone() {
        let input = |text: &str| format!("{text}{}", " ".repeat(WINDOW)).into_bytes();
        let long = input("\"previous_event_hash\":");
        let found = find(&KEYS, 0, &long).unwrap();
        assert_eq!(found, (1, 'b', b"previous_event_hash".as_slice()));
        assert!(find(&KEYS, 2, &long).is_none(), "it lies behind");
        for text in
            ["\"a:", "\"a\" :", "a\":", "\"aa\":", "\"A\":", "\"\":", "\"previous_event_hasg\":"]
        {
            assert!(find(&KEYS, 0, &input(text)).is_none(), "{text}");
        }
        assert!(find(&KEYS, 0, b"\"a\":1}").is_none(), "the window is not full");
        assert_eq!(named(&KEYS, b"c"), Some((2, 'c')));
        assert_eq!(named(&KEYS, b"d"), None);
    }
}

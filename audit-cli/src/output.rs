//! Standard output and error: where results and remarks go.

use std::{
    fmt,
    io::{self, BufWriter, IsTerminal as _, Write},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;

/// Standard output, buffered. A reader that has gone away, as `head` does, is no error.
pub(crate) struct Out {
    to: BufWriter<Box<dyn Write>>,
    gone: bool,
}

impl Out {
    pub(crate) fn stdout() -> Self {
        Self { to: BufWriter::new(Box::new(io::stdout())), gone: false }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        self.attempt(|to| writeln!(to, "{line}"))
    }

    /// Writes text that brings its own line ends.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.attempt(|to| to.write_all(text.as_bytes()))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.attempt(Write::flush)
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    fn attempt(
        &mut self,
        write: impl FnOnce(&mut BufWriter<Box<dyn Write>>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        if self.gone {
            return Ok(());
        }
        match write(&mut self.to) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                // What is in the buffer has no reader either, and must not be tried at the end.
                let nobody: Box<dyn Write> = Box::new(io::sink());
                let old = std::mem::replace(&mut self.to, BufWriter::new(nobody));
                drop(old.into_parts());
                Ok(())
            }
            Err(error) => Err(Failure::new(format!("cannot write to standard output: {error}"))),
            Ok(()) => Ok(()),
        }
    }
}

/// Says something beside the result.
pub(crate) fn complain(message: &str) {
    // Where standard error is closed, there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{message}");
}

/// A progress bar on standard error, hidden where that is no terminal.
pub(crate) fn progress(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if !io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar.set_style(
        ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_prefix(what);
    bar
}

/// A count and its noun.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A number that a person can read.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A name as a shell takes it.
pub(crate) fn shell(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', r"'\''"))
}

/// The first of a list of names, and how many more there are.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let mut names = names.into_iter();
    let shown: Vec<_> = names.by_ref().take(SHOWN).collect();
    let more = names.count();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_readable() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!((counted(1, "event"), counted(0, "event")).0, "1 event");
        assert_eq!(counted(0, "event"), "0 events");
    }

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(shell("dir/a-1"), "dir/a-1");
        assert_eq!(shell("two words"), "'two words'");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("-x"), "'-x'");
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..25).map(|n| n.to_string()).collect();
        assert!(listed(names.iter().map(String::as_str)).ends_with("18, 19 and 5 more"));
        assert_eq!(listed(["a", "b"]), "a, b");
    }
}

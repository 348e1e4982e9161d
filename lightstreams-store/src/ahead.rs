//! Reading ahead: what was read is hashed by a crew while more is read, and comes out in order.

use std::{collections::VecDeque, mem, vec};

use crate::{
    Block, BuildError, FileRoot, ImportOptions, Metadata,
    chunks::Chunk,
    crew::{Crew, Ticket},
};

/// The most and the least bytes of leaves that are read ahead, where there are threads to hash them.
const WINDOW_BYTES: (usize, usize) = (4 << 20, 8 << 20);
/// Events that are read ahead: names and marks take memory too.
const WINDOW_EVENTS: usize = 16 << 10;
/// Bytes of leaves that are handed over together, and how many of them: many small ones cost little more than one.
const RUN_BYTES: usize = 256 << 10;
const RUN_LEAVES: usize = 1 << 10;

/// What an input consists of, in the order in which it is read. `L` stands for a leaf.
pub(crate) enum Event<L> {
    /// An entry of a directory, which follows, has this name.
    Entry(String),
    /// A directory begins: entries, and an end.
    Directory(Metadata),
    /// A file begins: leaves, and an end.
    File(Metadata),
    /// A symbolic link, and where it points.
    Symlink(Metadata, Vec<u8>),
    /// What was imported before.
    Imported(FileRoot),
    Leaf(L),
    /// The file or directory ends that began last.
    End,
}

impl<L> Event<L> {
    fn try_map<M, E>(self, leaf: impl FnOnce(L) -> Result<M, E>) -> Result<Event<M>, E> {
        Ok(match self {
            Self::Entry(name) => Event::Entry(name),
            Self::Directory(metadata) => Event::Directory(metadata),
            Self::File(metadata) => Event::File(metadata),
            Self::Symlink(metadata, target) => Event::Symlink(metadata, target),
            Self::Imported(root) => Event::Imported(root),
            Self::Leaf(found) => Event::Leaf(leaf(found)?),
            Self::End => Event::End,
        })
    }
}

/// A chunk that becomes a leaf, a node of type `kind` if it becomes a node.
pub(crate) struct Leaf {
    pub(crate) data: Chunk,
    pub(crate) kind: u64,
    pub(crate) metadata: Metadata,
}

/// A leaf, hashed.
pub(crate) struct Hashed {
    pub(crate) block: Block,
    /// Bytes of the file in it.
    pub(crate) size: u64,
}

/// An input that is being read.
pub(crate) trait Source {
    /// What comes next; not asked again after an error or the end.
    fn next(&mut self) -> Result<Option<Event<Leaf>>, BuildError>;
}

/// An input whose leaves are hashed, by a crew, before they are asked for.
pub(crate) struct Ahead<'a, 't> {
    crew: &'a Crew<'a, 't>,
    source: &'a mut dyn Source,
    options: &'t ImportOptions,
    window_bytes: usize,
    /// What was read and not yet given out.
    events: VecDeque<Event<()>>,
    /// What the source ended with, behind all events.
    end: Option<Result<(), BuildError>>,
    /// Bytes of leaves among the events.
    bytes: usize,
    /// The leaves that were read last, to be handed over together.
    run: Vec<Leaf>,
    run_bytes: usize,
    /// The runs that were handed over.
    runs: VecDeque<Ticket<Vec<Result<Hashed, BuildError>>>>,
    /// The rest of the first of them.
    hashed: vec::IntoIter<Result<Hashed, BuildError>>,
}

impl<'a, 't> Ahead<'a, 't> {
    /// Reads `source`, whose leaves have at most `chunk_len_max` bytes, ahead for `crew`.
    pub(crate) fn new(
        crew: &'a Crew<'a, 't>,
        options: &'t ImportOptions,
        chunk_len_max: usize,
        source: &'a mut dyn Source,
    ) -> Self {
        // One thread hashes a leaf best while it is in its cache.
        let (min, max) = WINDOW_BYTES;
        let window_bytes = match crew.threads() {
            1 => 1,
            threads => (2 * threads * chunk_len_max).clamp(min, max),
        };
        Self {
            crew,
            source,
            options,
            window_bytes,
            events: VecDeque::new(),
            end: None,
            bytes: 0,
            run: Vec::new(),
            run_bytes: 0,
            runs: VecDeque::new(),
            hashed: Vec::new().into_iter(),
        }
    }

    /// What comes next; `None` at the end. An error comes up where it came up when the source was read.
    pub(crate) fn next(&mut self) -> Result<Option<Event<Hashed>>, BuildError> {
        self.read();
        match self.events.pop_front() {
            Some(event) => event.try_map(|()| self.leaf()).map(Some),
            None => self.end.replace(Ok(())).unwrap_or(Ok(())).map(|()| None),
        }
    }

    /// Whether a leaf comes next.
    pub(crate) fn has_leaf(&mut self) -> Result<bool, BuildError> {
        self.read();
        match self.events.front() {
            Some(event) => Ok(matches!(event, Event::Leaf(()))),
            None => self.end.replace(Ok(())).unwrap_or(Ok(())).map(|()| false),
        }
    }

    /// Reads as much as may be ahead, one event at least.
    fn read(&mut self) {
        while self.end.is_none()
            && (self.events.is_empty() || self.bytes < self.window_bytes && self.events.len() < WINDOW_EVENTS)
        {
            let event = self.source.next().and_then(|event| {
                let take = |leaf| {
                    self.take(leaf);
                    Ok(())
                };
                event.map(|event| event.try_map(take)).transpose()
            });
            match event {
                Ok(Some(event)) => self.events.push_back(event),
                end => self.end = Some(end.map(|_| ())),
            }
        }
    }

    fn take(&mut self, leaf: Leaf) {
        self.bytes += leaf.data.len();
        self.run_bytes += leaf.data.len();
        self.run.push(leaf);
        if self.run_bytes >= RUN_BYTES.min(self.window_bytes) || self.run.len() >= RUN_LEAVES {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let (leaves, options) = (mem::take(&mut self.run), self.options);
        self.run_bytes = 0;
        let hash = move || leaves.into_iter().map(|leaf| options.leaf(leaf)).collect();
        self.runs.push_back(self.crew.give(hash));
    }

    /// The next leaf, once it is hashed.
    fn leaf(&mut self) -> Result<Hashed, BuildError> {
        loop {
            if let Some(hashed) = self.hashed.next() {
                let hashed = hashed?;
                self.bytes = self.bytes.saturating_sub(hashed.size as usize);
                return Ok(hashed);
            }
            if self.runs.is_empty() {
                self.hand_over();
            }
            if let Some(run) = self.runs.pop_front() {
                self.hashed = self.crew.wait(run).into_iter();
            }
        }
    }
}

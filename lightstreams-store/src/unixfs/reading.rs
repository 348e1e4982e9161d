use std::{io::Read, sync::Arc};

use super::{ImportOptions, Input, MAX_TREE_DEPTH, check_name};
use crate::{
    AnyChunker, BuildError,
    ahead::{Event, Leaf, Source},
    buffers::Buffers,
    chunks::FREE_BYTES,
    file::FileLeaves,
};

type EntriesOf<'a> = Box<dyn Iterator<Item = Result<(String, Input<'a>), BuildError>> + 'a>;

/// An input that is read in order: each directory before its entries, each file when its turn comes.
pub(super) struct Reading<'a, 't> {
    options: &'t ImportOptions,
    /// What is to be begun next.
    next: Option<Input<'a>>,
    file: Option<FileLeaves<Box<dyn Read + 'a>, AnyChunker>>,
    /// The directories that are open.
    above: Vec<EntriesOf<'a>>,
    buffers: Arc<Buffers>,
}

impl<'a, 't> Reading<'a, 't> {
    pub(super) fn new(options: &'t ImportOptions, input: Input<'a>) -> Self {
        let buffers = Buffers::new(FREE_BYTES);
        Self { options, next: Some(input), file: None, above: Vec::new(), buffers }
    }

    fn begin(&mut self, input: Input<'a>) -> Result<Event<Leaf>, BuildError> {
        if self.above.len() > MAX_TREE_DEPTH {
            return Err(BuildError::TooDeep);
        }
        Ok(match input {
            Input::File { metadata, open } => {
                let reader = open().map_err(BuildError::Read)?;
                let metadata = self.options.metadata_for(metadata);
                let buffers = Arc::clone(&self.buffers);
                let leaves = FileLeaves::new(self.options.chunker, reader, buffers, self.options, metadata);
                self.file = Some(leaves);
                Event::File(metadata)
            }
            Input::Symlink { metadata, target } => {
                Event::Symlink(self.options.metadata_for(metadata), target)
            }
            Input::Imported(root) => Event::Imported(root),
            Input::Directory { metadata, entries } => {
                self.above.push(entries);
                Event::Directory(self.options.metadata_for(metadata))
            }
        })
    }
}

impl Source for Reading<'_, '_> {
    fn next(&mut self) -> Result<Option<Event<Leaf>>, BuildError> {
        if let Some(file) = &mut self.file {
            let leaf = file.next()?;
            if leaf.is_none() {
                self.file = None;
            }
            return Ok(Some(leaf.map_or(Event::End, Event::Leaf)));
        }
        if let Some(input) = self.next.take() {
            return self.begin(input).map(Some);
        }
        let Some(entries) = self.above.last_mut() else { return Ok(None) };
        for entry in entries {
            let (name, input) = entry?;
            if !self.options.hidden && name.starts_with('.') {
                continue;
            }
            check_name(&name).map_err(|reason| BuildError::Name { name: name.clone(), reason })?;
            self.next = Some(input);
            return Ok(Some(Event::Entry(name)));
        }
        self.above.pop();
        Ok(Some(Event::End))
    }
}

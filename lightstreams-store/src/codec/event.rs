//! A value as a stream of events, and its tree.

use std::collections::BTreeMap;

use cid::Cid;
use ipld_core::ipld::Ipld;

use crate::fault::Fault;

/// A piece of a value; lists and maps end in [`Event::End`], a value of a map follows its key.
#[derive(Debug)]
pub(super) enum Event<'a> {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Link(Cid),
    List,
    Map,
    Key(&'a str),
    End,
}

/// Takes events in order. An error ends the reading.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Event<'_>) -> Result<(), Fault>;

/// A list or map that is not yet ended.
enum Open {
    List(Vec<Ipld>),
    Map(BTreeMap<String, Ipld>, String),
}

/// The tree of the events that `scan` gives, which are those of one value.
pub(super) fn build(scan: impl FnOnce(Sink<'_>) -> Result<(), Fault>) -> Result<Ipld, Fault> {
    let mut stack: Vec<Open> = Vec::new();
    let mut done = None;
    scan(&mut |event| {
        let value = match event {
            Event::Null => Ipld::Null,
            Event::Bool(value) => Ipld::Bool(value),
            Event::Integer(value) => Ipld::Integer(value),
            Event::Float(value) => Ipld::Float(value),
            Event::Text(value) => Ipld::String(value.to_owned()),
            Event::Bytes(value) => Ipld::Bytes(value.to_vec()),
            Event::Link(cid) => Ipld::Link(cid),
            Event::List => {
                stack.push(Open::List(Vec::new()));
                return Ok(());
            }
            Event::Map => {
                stack.push(Open::Map(BTreeMap::new(), String::new()));
                return Ok(());
            }
            Event::Key(key) => {
                if let Some(Open::Map(_, open_key)) = stack.last_mut() {
                    key.clone_into(open_key);
                }
                return Ok(());
            }
            Event::End => match stack.pop() {
                Some(Open::List(list)) => Ipld::List(list),
                Some(Open::Map(map, _)) => Ipld::Map(map),
                None => return Ok(()),
            },
        };
        match stack.last_mut() {
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => {
                map.insert(std::mem::take(key), value);
            }
            None => done = Some(value),
        }
        Ok(())
    })?;
    done.ok_or(Fault { at: 0, reason: "there is no value" })
}

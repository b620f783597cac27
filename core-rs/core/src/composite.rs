//! Keys that may be composite: thresholds over weighted keys (section 2).

use crate::error::Error;
use crate::hash::{Digest, sha256_parts};
use crate::keys::{check_key, hex};
use crate::wire::KEY_BYTES;

/// How deep thresholds are nested, the outermost one included.
pub const DEPTH_MAX: usize = 4;
/// Children of a threshold.
pub const CHILDREN_MAX: usize = 32;
/// Leaves of a composite key.
pub const LEAVES_MAX: usize = 64;

/// The first byte of a composite key.
const COMPOSITE: u8 = 1;
const LEAF: u8 = 0;
const THRESHOLD: u8 = 1;

/// A key that must sign; whether its Ed25519 keys are good ones, a signature by them shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key<'a> {
    /// An Ed25519 key.
    Single(&'a [u8; KEY_BYTES]),
    /// A composite key.
    Composite(Composite<'a>),
}

/// A decoded composite key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composite<'a> {
    bytes: &'a [u8],
    root: Threshold<'a>,
    leaves: Vec<&'a [u8; KEY_BYTES]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Threshold<'a> {
    threshold: u16,
    children: Vec<(u16, Node<'a>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node<'a> {
    Leaf(&'a [u8; KEY_BYTES]),
    Threshold(Threshold<'a>),
}

impl<'a> Key<'a> {
    /// Decodes 32 bytes as an Ed25519 key and anything longer as a canonical composite key.
    ///
    /// Refused: another form or order than section 2 gives, numbers out of range, a leaf that stands twice.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        match bytes.try_into() {
            Ok(key) => Ok(Self::Single(key)),
            Err(_) if bytes.len() < KEY_BYTES => Err(Error::Key(format!(
                "the key has {} bytes; Ed25519 keys have {KEY_BYTES}, composite keys more",
                bytes.len()
            ))),
            Err(_) => Composite::decode(bytes).map(Self::Composite),
        }
    }

    /// Decodes, and refuses a leaf that `check_key` refuses.
    pub fn decode_checked(bytes: &'a [u8]) -> Result<Self, Error> {
        let key = Self::decode(bytes)?;
        key.leaves()
            .iter()
            .try_for_each(|leaf| check_key(*leaf).map(|_| ()))?;
        Ok(key)
    }

    /// The bytes that were decoded.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Single(key) => *key,
            Self::Composite(composite) => composite.bytes,
        }
    }

    /// The id: an Ed25519 key itself, SHA-256(0x05 ‖ key) of a composite one.
    #[must_use]
    pub fn id(&self) -> Digest {
        match self {
            Self::Single(key) => **key,
            Self::Composite(composite) => sha256_parts(&[&[0x05], composite.bytes]),
        }
    }

    /// The Ed25519 keys whose signatures count, ascending and distinct.
    #[must_use]
    pub fn leaves(&self) -> &[&'a [u8; KEY_BYTES]] {
        match self {
            Self::Single(key) => std::slice::from_ref(key),
            Self::Composite(composite) => &composite.leaves,
        }
    }

    /// The weight that lacks when exactly the keys that `signed` knows have signed, and the weight that is needed;
    /// `None` when the key is satisfied.
    pub fn lacking(&self, signed: &impl Fn(&[u8; KEY_BYTES]) -> bool) -> Option<(u32, u16)> {
        let (reached, needed) = match self {
            Self::Single(key) => (u32::from(signed(key)), 1),
            Self::Composite(composite) => {
                (composite.root.reached(signed), composite.root.threshold)
            }
        };
        let lack = u32::from(needed).saturating_sub(reached);
        (lack > 0).then_some((lack, needed))
    }
}

impl<'a> Composite<'a> {
    fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut parser = Parser {
            rest: bytes,
            leaves: Vec::new(),
        };
        if parser.byte()? != COMPOSITE {
            return Err(refuse("does not begin with the byte of composite keys"));
        }
        if parser.byte()? != THRESHOLD {
            return Err(refuse("is not a threshold at the outside"));
        }
        let root = parser.threshold(1)?;
        let Parser { rest, mut leaves } = parser;
        if !rest.is_empty() {
            return Err(refuse("has bytes after its last child"));
        }
        leaves.sort_unstable();
        if let Some((twice, _)) = leaves
            .iter()
            .zip(leaves.iter().skip(1))
            .find(|(a, b)| a == b)
        {
            return Err(refuse(&format!("holds the leaf {} twice", hex(*twice))));
        }
        Ok(Self {
            bytes,
            root,
            leaves,
        })
    }
}

impl Threshold<'_> {
    /// The weights of the satisfied children together; nested at most `DEPTH_MAX` deep.
    fn reached(&self, signed: &impl Fn(&[u8; KEY_BYTES]) -> bool) -> u32 {
        let satisfied = self.children.iter().filter(|(_, node)| match node {
            Node::Leaf(key) => signed(key),
            Node::Threshold(inner) => inner.reached(signed) >= u32::from(inner.threshold),
        });
        satisfied.map(|(weight, _)| u32::from(*weight)).sum()
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    leaves: Vec<&'a [u8; KEY_BYTES]>,
}

impl<'a> Parser<'a> {
    /// What follows the byte of a threshold, at the given depth.
    fn threshold(&mut self, depth: usize) -> Result<Threshold<'a>, Error> {
        if depth > DEPTH_MAX {
            return Err(refuse(&format!("is nested more than {DEPTH_MAX} deep")));
        }
        let threshold = self.number()?;
        let count = self.byte()?;
        if !(1..=CHILDREN_MAX).contains(&usize::from(count)) {
            return Err(refuse(&format!(
                "has a threshold over {count} children instead of 1 to {CHILDREN_MAX}"
            )));
        }
        let mut children = Vec::new();
        let mut previous: &[u8] = &[];
        for _ in 0..count {
            let weight = self.number()?;
            if weight == 0 {
                return Err(refuse("has a child of weight 0"));
            }
            let before = self.rest;
            let node = self.node(depth)?;
            let length = before.len().saturating_sub(self.rest.len());
            let bytes = before.get(..length).unwrap_or_default();
            if bytes <= previous {
                return Err(refuse("has children that do not ascend"));
            }
            previous = bytes;
            children.push((weight, node));
        }
        let sum: u32 = children.iter().map(|(weight, _)| u32::from(*weight)).sum();
        if threshold == 0 || u32::from(threshold) > sum {
            return Err(refuse(&format!(
                "has the threshold {threshold} over weights of {sum} together"
            )));
        }
        // A vector that grows keeps room for more: many small thresholds would hold much more than their bytes.
        children.shrink_to_fit();
        Ok(Threshold {
            threshold,
            children,
        })
    }

    fn node(&mut self, depth: usize) -> Result<Node<'a>, Error> {
        match self.byte()? {
            THRESHOLD => self.threshold(depth + 1).map(Node::Threshold),
            LEAF => {
                if self.leaves.len() == LEAVES_MAX {
                    return Err(refuse(&format!("has more than {LEAVES_MAX} leaves")));
                }
                let leaf = self.take()?;
                self.leaves.push(leaf);
                Ok(Node::Leaf(leaf))
            }
            other => Err(refuse(&format!("has a node of the unknown kind {other}"))),
        }
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.take().map(|[byte]| *byte)
    }

    fn number(&mut self) -> Result<u16, Error> {
        self.take().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let split = self.rest.split_first_chunk();
        let (bytes, rest) = split.ok_or_else(|| refuse("is cut short"))?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// The canonical encoding of a threshold over (weight, key) children, Ed25519 or composite; refused like `decode`,
/// and for a leaf that `check_key` refuses.
pub fn composite_key(threshold: u16, children: &[(u16, &[u8])]) -> Result<Vec<u8>, Error> {
    if children.len() > CHILDREN_MAX {
        return Err(refuse(&format!(
            "has {} children instead of 1 to {CHILDREN_MAX}",
            children.len()
        )));
    }
    let mut nodes = Vec::with_capacity(children.len());
    for (weight, key) in children {
        let node = match Key::decode(key)? {
            Key::Single(leaf) => [&[LEAF], &leaf[..]].concat(),
            Key::Composite(composite) => composite.bytes.iter().skip(1).copied().collect(),
        };
        nodes.push((node, *weight));
    }
    nodes.sort_unstable();
    let mut encoded = vec![COMPOSITE, THRESHOLD];
    encoded.extend_from_slice(&threshold.to_be_bytes());
    encoded.push(nodes.len() as u8);
    for (node, weight) in &nodes {
        encoded.extend_from_slice(&weight.to_be_bytes());
        encoded.extend_from_slice(node);
    }
    Key::decode_checked(&encoded)?;
    Ok(encoded)
}

fn refuse(what: &str) -> Error {
    Error::Key(format!("the composite key {what}"))
}

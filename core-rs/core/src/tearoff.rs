//! Tear-offs: some components of a transaction with the proof that they belong to its id (section 3).

use crate::error::Error;
use crate::hash::{Digest, Nonces};
use crate::merkle::{self, recompute};
use crate::transaction::{
    FORMAT, GROUPS, Group, Transaction, check_format, group_root, id_of_tree, leaf,
};
use crate::wire::{GROUP_COMPONENTS_MAX, Reader, Writer};

/// A shown component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevealedComponent<'a> {
    /// Its index in the group.
    pub index: u32,
    /// Its nonce.
    pub nonce: &'a Digest,
    /// Its bytes.
    pub component: &'a [u8],
}

/// A shown group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevealedGroup<'a> {
    /// The group.
    pub group: Group,
    /// How many components it has, shown or not.
    pub count: u32,
    /// The shown ones, ascending.
    pub components: Vec<RevealedComponent<'a>>,
    siblings: Vec<&'a Digest>,
}

impl RevealedGroup<'_> {
    /// Whether every component of the group is shown.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.components.len() as u64 == u64::from(self.count)
    }

    fn root(&self) -> Result<Digest, Error> {
        let number = self.group.number();
        let shown = self.components.iter();
        let known: Vec<_> = shown
            .map(|c| (c.index, leaf(number, c.index, c.nonce, c.component)))
            .collect();
        let tree = recompute(merkle::COMPONENTS, self.count, &known, &self.siblings)?;
        Ok(group_root(number, self.count, &tree))
    }
}

/// A decoded tear-off; nothing that it shows is proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TearOff<'a> {
    groups: Vec<RevealedGroup<'a>>,
    siblings: Vec<&'a Digest>,
}

/// What a verified tear-off shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revealed<'a> {
    /// The id of the transaction that the components belong to.
    pub id: Digest,
    /// The shown groups, ascending.
    pub groups: Vec<RevealedGroup<'a>>,
}

impl<'a> TearOff<'a> {
    /// Decodes a canonical `ledger.v1.TearOff` whose groups and indices ascend.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "TearOff");
        check_format(reader.uint32(1)?)?;
        let mut groups: Vec<RevealedGroup<'a>> = Vec::new();
        while let Some(group) = reader.repeated(2)? {
            let group = decode_group(group)?;
            if groups.last().is_some_and(|last| last.group >= group.group) {
                return Err(reader.refuse(2, "holds groups that do not ascend"));
            }
            groups.push(group);
        }
        let siblings = read_siblings(&mut reader, 3, GROUPS)?;
        reader.finish()?;
        Ok(Self { groups, siblings })
    }

    /// The id that the shown components and the siblings lead to.
    pub fn prove(self) -> Result<Revealed<'a>, Error> {
        let roots = self
            .groups
            .iter()
            .map(|group| Ok((u32::from(group.group.number()), group.root()?)));
        let roots = roots.collect::<Result<Vec<_>, Error>>()?;
        let tree = recompute(merkle::GROUPS, GROUPS as u32, &roots, &self.siblings)?;
        Ok(Revealed {
            id: id_of_tree(&tree),
            groups: self.groups,
        })
    }

    /// What the tear-off shows of the transaction `expected`; refused when it leads to another id.
    pub fn verify(self, expected: &Digest) -> Result<Revealed<'a>, Error> {
        let revealed = self.prove()?;
        if revealed.id != *expected {
            return Err(Error::proof(
                "proof.invalid",
                "the tear-off leads to another transaction id than the expected",
            ));
        }
        Ok(revealed)
    }
}

impl<'a> Revealed<'a> {
    /// The shown part of a group, `None` when it is hidden.
    #[must_use]
    pub fn group(&self, group: Group) -> Option<&RevealedGroup<'a>> {
        self.groups.iter().find(|shown| shown.group == group)
    }

    /// Whether every component of a group is shown.
    #[must_use]
    pub fn is_complete(&self, group: Group) -> bool {
        self.group(group).is_some_and(RevealedGroup::is_complete)
    }

    /// The component at an index of a group, `None` when it is hidden.
    #[must_use]
    pub fn component(&self, group: Group, index: u32) -> Option<&'a [u8]> {
        let components = &self.group(group)?.components;
        let position = components
            .binary_search_by_key(&index, |shown| shown.index)
            .ok()?;
        components.get(position).map(|shown| shown.component)
    }

    /// The only component of a group that is shown completely; `None` in every other case.
    #[must_use]
    pub fn only(&self, group: Group) -> Option<&'a [u8]> {
        match self.group(group)?.components.as_slice() {
            [one] if self.is_complete(group) => Some(one.component),
            _ => None,
        }
    }
}

/// A canonical `ledger.v1.TearOff` of `transaction` that shows the (group, index) pairs and the whole groups.
///
/// Refused: a group or index that the transaction does not have.
pub fn tear_off(
    transaction: &Transaction<'_>,
    components: &[(u32, u32)],
    whole_groups: &[u32],
) -> Result<Vec<u8>, Error> {
    let selection = select(transaction, components, whole_groups)?;
    let nonces = Nonces::new(transaction.salt());
    let shown_groups = selection.each_ref().map(Option::is_some);
    let siblings = merkle::multiproof(merkle::GROUPS, &transaction.group_roots(), &shown_groups);
    let mut writer = Writer::with_capacity(1024);
    writer.uint(1, u64::from(FORMAT));
    for (group, shown) in Group::ALL.into_iter().zip(selection) {
        if let Some(shown) = shown {
            writer.message(2, |message| {
                write_group(message, transaction, group, &shown, &nonces)
            });
        }
    }
    for sibling in &siblings {
        writer.entry(3, sibling);
    }
    Ok(writer.finish())
}

type Selection = [Option<Vec<bool>>; GROUPS];

fn select(
    transaction: &Transaction<'_>,
    components: &[(u32, u32)],
    whole: &[u32],
) -> Result<Selection, Error> {
    let mut selection = Group::ALL.map(|_| None);
    let count =
        |number: u32| Group::from_number(number).map_or(0, |group| transaction.group(group).len());
    for number in whole {
        let slot = slot(&mut selection, *number)?;
        *slot = Some(vec![true; count(*number)]);
    }
    for (number, index) in components {
        let shown =
            slot(&mut selection, *number)?.get_or_insert_with(|| vec![false; count(*number)]);
        let marked = usize::try_from(*index)
            .ok()
            .and_then(|index| shown.get_mut(index));
        *marked.ok_or_else(|| {
            Error::proof(
                "proof.index",
                format!("group {number} of the transaction has no component {index}"),
            )
        })? = true;
    }
    Ok(selection)
}

fn slot(selection: &mut Selection, number: u32) -> Result<&mut Option<Vec<bool>>, Error> {
    let slot = usize::try_from(number)
        .ok()
        .and_then(|number| selection.get_mut(number));
    slot.ok_or_else(|| {
        Error::proof(
            "proof.index",
            format!("a transaction has no group {number}"),
        )
    })
}

fn write_group(
    message: &mut Writer,
    transaction: &Transaction<'_>,
    group: Group,
    shown: &[bool],
    nonces: &Nonces,
) {
    let number = group.number();
    message
        .uint(1, u64::from(number))
        .uint(2, shown.len() as u64);
    let components = transaction.group(group).iter().zip(shown).zip(0u32..);
    for ((component, _), index) in components.filter(|((_, shown), _)| **shown) {
        message.message(3, |entry| {
            entry
                .uint(1, u64::from(index))
                .bytes(2, &nonces.nonce(number, index))
                .bytes(3, component);
        });
    }
    for sibling in merkle::multiproof(merkle::COMPONENTS, &transaction.leaves(group), shown) {
        message.entry(4, &sibling);
    }
}

fn decode_group(bytes: &[u8]) -> Result<RevealedGroup<'_>, Error> {
    let mut reader = Reader::new(bytes, "RevealedGroup");
    let number = reader.uint32(1)?;
    let group = Group::from_number(number)
        .ok_or_else(|| reader.refuse(1, "names a group that does not exist"))?;
    let count = reader.uint32(2)?;
    if count as usize > GROUP_COMPONENTS_MAX {
        return Err(reader.refuse(2, &format!("is above {GROUP_COMPONENTS_MAX}")));
    }
    let mut components: Vec<RevealedComponent<'_>> = Vec::new();
    while let Some(component) = reader.repeated(3)? {
        let component = decode_component(component)?;
        let ascends = components
            .last()
            .is_none_or(|last| last.index < component.index);
        if !ascends || component.index >= count {
            return Err(reader.refuse(3, "holds indices that do not ascend below the count"));
        }
        components.push(component);
    }
    if components.is_empty() && count > 0 {
        return Err(reader.refuse(3, "shows no component of a group that has some"));
    }
    let siblings = read_siblings(&mut reader, 4, count as usize)?;
    reader.finish()?;
    Ok(RevealedGroup {
        group,
        count,
        components,
        siblings,
    })
}

fn decode_component(bytes: &[u8]) -> Result<RevealedComponent<'_>, Error> {
    let mut reader = Reader::new(bytes, "RevealedComponent");
    let component = RevealedComponent {
        index: reader.uint32(1)?,
        nonce: reader.array(2)?,
        component: reader.bytes(3)?,
    };
    reader.finish()?;
    Ok(component)
}

pub(crate) fn read_siblings<'a>(
    reader: &mut Reader<'a>,
    number: u32,
    max: usize,
) -> Result<Vec<&'a Digest>, Error> {
    let mut siblings = Vec::new();
    while let Some(sibling) = reader.repeated_array(number)? {
        if siblings.len() == max {
            return Err(reader.refuse(number, &format!("holds more than {max} siblings")));
        }
        siblings.push(sibling);
    }
    Ok(siblings)
}

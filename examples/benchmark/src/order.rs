//! An order: about one kilobyte of typed JSON with text, numbers, lists and optional fields.
//!
//! It has no floating-point number with an integral value, because Rust and JavaScript format those differently.

use serde::{Deserialize, Serialize};

/// An order of a shop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Identifies the order.
    pub id: u64,
    /// Number of times that it has been handled.
    pub count: u64,
    customer: Customer,
    items: Vec<Item>,
    total: f64,
    paid: bool,
    voucher: Option<String>,
    note: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Customer {
    name: String,
    email: String,
    address: Address,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Address {
    street: String,
    postcode: String,
    city: String,
    country: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    sku: String,
    title: String,
    quantity: u32,
    price: f64,
    tags: Vec<String>,
}

impl Order {
    /// The order with this id, handled once.
    pub fn numbered(id: u64) -> Self {
        Self {
            id,
            count: 1,
            customer: Customer {
                name: "Ada Lovelace".into(),
                email: "ada@example.com".into(),
                address: Address {
                    street: "12 St James's Square".into(),
                    postcode: "SW1Y 4JH".into(),
                    city: "London".into(),
                    country: "GB".into(),
                },
            },
            items: vec![
                item(
                    "BK-0417",
                    "Sketch of the Analytical Engine",
                    1,
                    24.95,
                    &["book", "history", "gift"],
                ),
                item(
                    "ST-2210",
                    "Punched cards, a pack of five hundred",
                    3,
                    7.45,
                    &["paper", "office"],
                ),
                item(
                    "TL-0093",
                    "Brass gears, assorted, with a case",
                    2,
                    112.25,
                    &["tool", "brass", "fragile"],
                ),
                item(
                    "MS-1001",
                    "Lamp oil, one gallon, without smell",
                    4,
                    3.85,
                    &["household"],
                ),
                item(
                    "CL-0777",
                    "Shawl of wool, dark blue, large",
                    1,
                    58.75,
                    &["clothing", "wool", "gift"],
                ),
            ],
            total: 345.95,
            paid: true,
            voucher: None,
            note: "Please ring the bell twice, and leave everything with the porter if nobody comes to the door. The lamp is for the second floor, where Mr Babbage works at night."
                .into(),
        }
    }
}

fn item(sku: &str, title: &str, quantity: u32, price: f64, tags: &[&str]) -> Item {
    Item {
        sku: sku.into(),
        title: title.into(),
        quantity,
        price,
        tags: tags.iter().map(|&tag| tag.into()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Order {
        pub(crate) fn to_json(&self) -> String {
            serde_json::to_string(self).expect("an order can be written as JSON")
        }
    }

    #[test]
    fn order_has_about_one_kilobyte() {
        let length = Order::numbered(1_000_000).to_json().len();
        assert!((950..1_100).contains(&length), "{length}");
    }
}

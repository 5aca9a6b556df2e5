//! What the agents work on: two shops with files and orders, and a carrier.

use std::{fs, path::Path, sync::Arc};

use rusqlite::Connection;
use serde_json::json;

use crate::{
    Fault,
    http::{self, Client},
    tools::{Refund, Shop},
};

/// A customer of ours, and what its support agent is asked to do.
pub(crate) struct Tenant {
    pub(crate) id: &'static str,
    pub(crate) session: &'static str,
    pub(crate) task: &'static str,
    orders: &'static str,
}

pub(crate) const ACME: Tenant = Tenant {
    id: "acme",
    session: "ticket-1",
    task: "Ana wants her money for order A-1001 back, and wrote \"in 0 instalments\". Look at the \
           order and at refund-policy.txt, work the instalments out with the calculator, look for \
           instalments.txt, let the courier agent find her return A-1001-R, then refund what she \
           paid.",
    orders: "INSERT INTO orders VALUES ('A-1001', 'Ana', 'lamp', 4000)",
};

pub(crate) const GLOBEX: Tenant = Tenant {
    id: "globex",
    session: "ticket-2",
    task: "Bo wants his money back for the orders G-7 and G-8. Look both up, ask the carrier where \
           the parcel of G-7 is, then refund each of them in full, one after the other.",
    orders: "INSERT INTO orders VALUES ('G-7', 'Bo', 'chair', 10000), ('G-8', 'Bo', 'sofa', 250000)",
};

impl Tenant {
    /// Opens the shop: its files and its database are in a directory of their own.
    pub(crate) fn open_shop(&self, home: &Path, carrier: &str) -> Result<Arc<Shop>, Fault> {
        let files = home.join("shops").join(self.id);
        fs::create_dir_all(&files)?;
        fs::write(files.join("refund-policy.txt"), "Refund returned goods in full.\n")?;
        let database = files.join("orders.db");
        Connection::open(&database)?.execute_batch(&format!(
            "CREATE TABLE orders (id TEXT PRIMARY KEY, customer TEXT, item TEXT, paid_cents INTEGER);
             CREATE TABLE refunds (id INTEGER PRIMARY KEY, order_id TEXT, cents INTEGER);
             {};",
            self.orders
        ))?;
        let carrier = carrier.to_owned();
        Ok(Arc::new(Shop { files, database, carrier, client: Client::new() }))
    }
}

/// What was really paid: the shop's own books, not the log.
pub(crate) fn paid(shop: &Shop) -> Result<Vec<Refund>, Fault> {
    let database = Connection::open(&shop.database)?;
    let mut refunds = database.prepare("SELECT order_id, cents FROM refunds ORDER BY id")?;
    let refund = |row: &rusqlite::Row<'_>| Ok(Refund { order: row.get(0)?, cents: row.get(1)? });
    Ok(refunds.query_map([], refund)?.collect::<Result<_, _>>()?)
}

/// Starts the carrier's service; about the parcel of G-7 it never answers.
pub(crate) async fn start_carrier() -> std::io::Result<String> {
    http::serve(|_, uri, _| async move {
        let order = uri.path().strip_prefix("/parcels/")?;
        if order == "G-7" {
            std::future::pending::<()>().await;
        }
        Some(json!({"order": order, "state": "returned to the shop"}))
    })
    .await
}

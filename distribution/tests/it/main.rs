//! The crate from outside: tables of cases, properties, and the texts of errors.

// `cfg(test)` tells clippy what the whole binary is: tests may unwrap.
#[cfg(test)]
mod cases;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod explanation;
#[cfg(test)]
mod fairness;
#[cfg(test)]
mod line;
#[cfg(test)]
mod lints;
#[cfg(test)]
mod office;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod world;

//! The first steps of a user, as the guide describes them: its files are built and run exactly as printed, and the messages
//! that it explains are those that appear.

mod build_scripts;
mod crates;
mod layouts;
mod messages;
mod project;

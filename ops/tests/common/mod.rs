//! A command line run in this process.

use no_ops::cli::{Console, run};
use std::cell::RefCell;
use std::ffi::OsString;
use std::io::Write;
use std::rc::Rc;

/// What a command line said and returned.
pub(crate) struct Said {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).expect("utf-8")
    }
}

/// Runs `no` with these arguments.
pub(crate) fn no(args: &[&str]) -> Said {
    let (out, err) = (Shared::default(), Shared::default());
    let mut console = Console::new(Box::new(out.clone()), Box::new(err.clone()));
    let args = ["no"].iter().chain(args).map(OsString::from);
    let code = run(args, &mut console);
    Said { code, out: out.text(), err: err.text() }
}

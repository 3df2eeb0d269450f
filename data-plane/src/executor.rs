//! Runs what hyper spawns, the streams of HTTP/2 connections, on the worker's own thread, and knows
//! how to end each of them.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use foldhash::fast::RandomState;
use tokio::task::{self, AbortHandle};

/// The executor of one worker.
#[derive(Clone, Default)]
pub(crate) struct LocalExecutor {
    tasks: Rc<RefCell<Tasks>>,
}

type Tasks = HashMap<task::Id, AbortHandle, RandomState>;

impl LocalExecutor {
    /// The way to end the task this is called in; `None` where hyper did not spawn it.
    pub(crate) fn current(&self) -> Option<AbortHandle> {
        self.tasks.borrow().get(&task::try_id()?).cloned()
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        let listed = Listed(self.tasks.clone());
        // Boxed: spawning copies a future several times, and a stream's has kilobytes.
        let future = Box::pin(future);
        let task = task::spawn_local(async move {
            let _listed = listed;
            future.await;
        });
        self.tasks.borrow_mut().insert(task.id(), task.abort_handle());
    }
}

/// Takes a task off the list when it ends, in whichever way.
struct Listed(Rc<RefCell<Tasks>>);

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(id) = task::try_id() {
            self.0.borrow_mut().remove(&id);
        }
    }
}

//! One address for several processes of ingest, as a proxy in front of them has it: a connection goes to one that takes it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};

/// Passes connections on until it is dropped.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Door {
    /// A door to these ports.
    ///
    /// # Errors
    /// When there is no port left.
    pub(super) async fn open(ports: Vec<u16>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((caller, _)) = listener.accept().await {
                turn += 1;
                let mut order = ports.clone();
                order.rotate_left(turn % ports.len().max(1));
                tokio::spawn(pass_on(caller, order));
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// To the first that takes it; where none does, or the one that took it dies, the caller's connection ends.
async fn pass_on(mut caller: TcpStream, ports: Vec<u16>) {
    for port in ports {
        if let Ok(mut ingest) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            tokio::io::copy_bidirectional(&mut caller, &mut ingest).await.ok();
            return;
        }
    }
}

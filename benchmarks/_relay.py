"""The floor for a shim: a bare relay between stdio and a hub's socket, `python -I -S _relay.py SOCKET`."""

import os
import select
import socket
import sys

hub = socket.socket(socket.AF_UNIX)
hub.connect(sys.argv[1])
hub.sendall(b'{"alg":1,"kind":"mcp"}\n')
while True:
    for source in select.select([0, hub], [], [])[0]:
        data = os.read(0, 65536) if source == 0 else hub.recv(65536)
        if not data:
            sys.exit()
        if source == 0:
            hub.sendall(data)
        else:
            os.write(1, data)

# The server of moto, which handles one request at a time.
"""
    python moto_in_turns.py <port>

Secrets Manager documents its operations as atomic. With several threads moto is not: during a compare-and-swap, another request
can find no version with AWSCURRENT. So this handles one request at a time. Each connection still has its own thread.
"""

import sys
import threading

from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple


class OneAtATime(DomainDispatcherApplication):
    turn = threading.Lock()  # not `lock`: the base class uses that name

    def __call__(self, environ, start_response):
        with self.turn:
            return list(super().__call__(environ, start_response))


run_simple("127.0.0.1", int(sys.argv[1]), OneAtATime(create_backend_app), threaded=True, request_handler=MotoRequestHandler)

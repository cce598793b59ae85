# moto's own server, answering one request at a time.
"""
    python moto_in_turns.py <port>

moto's threads are not atomic where Secrets Manager is documented to be: between two lines of a compare-and-swap another
request finds no version with AWSCURRENT. Connections have a thread each; requests take turns.
"""

import sys
import threading

from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple


class OneAtATime(DomainDispatcherApplication):
    turn = threading.Lock()

    def __call__(self, environ, start_response):
        with self.turn:
            return list(super().__call__(environ, start_response))


run_simple("127.0.0.1", int(sys.argv[1]), OneAtATime(create_backend_app), threaded=True, request_handler=MotoRequestHandler)

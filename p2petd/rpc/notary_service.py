"""notary.v1.NotaryService: what the operator of a notary may ask of it."""

import asyncio
from typing import Any

from p2pet.notary.v1 import notary_pb2 as pb
from p2pet.notary.v1 import notary_pb2_grpc

from p2petd import native
from p2petd.errors import RequestMalformed
from p2petd.notary.service import NotaryService
from p2petd.rpc.errors import unary


class NotaryRpc(notary_pb2_grpc.NotaryServiceServicer):
    """On the client listener of a node that works for a notary service."""

    def __init__(self, notary: NotaryService) -> None:
        self._notary = notary

    @unary
    async def WhoSpent(self, request: pb.WhoSpentRequest, context: Any) -> pb.WhoSpentResponse:
        try:
            # It reads the notary's log: from a disk, beside a batch that is being decided.
            return await asyncio.to_thread(self._notary.who_spent, request.subject)
        except native.MalformedError as error:
            raise RequestMalformed(str(error)) from error

"""The reference function as a model of MLServer: what sluice-loadtest asks of a model server and checks.

Computing takes 10 ms a call and 1 ms a row, one call at a time, as on a GPU. Every call is written to the file
that REFERENCE_JOURNAL names before it is computed: {"t_us": microseconds since 1970, "ids": [ids of its rows]}.
"""

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Reference(MLModel):
    async def load(self) -> bool:
        journal = os.environ.get("REFERENCE_JOURNAL")
        self.journal = open(journal, "a", buffering=1) if journal else None
        self.device = ThreadPoolExecutor(max_workers=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensors = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        ids, x = tensors["id"], tensors["x"]
        loop = asyncio.get_running_loop()
        y = await loop.run_in_executor(self.device, self.compute, ids, x)
        outputs = [NumpyCodec.encode_output("id", ids), NumpyCodec.encode_output("y", y)]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=outputs)

    def compute(self, ids: numpy.ndarray, x: numpy.ndarray) -> numpy.ndarray:
        if self.journal:
            call = {"t_us": time.time_ns() // 1000, "ids": ids.ravel().tolist()}
            self.journal.write(json.dumps(call) + "\n")
        time.sleep(0.010 + 0.001 * len(ids))
        # Each operation rounded to FP32, as the generator of the load does.
        return numpy.float32(3) * x.astype(numpy.float32) + numpy.mod(ids, 1024).astype(numpy.float32)

    async def unload(self) -> bool:
        self.device.shutdown()
        return True

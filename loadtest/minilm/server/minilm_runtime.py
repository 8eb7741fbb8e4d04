"""MLServer runtime for the ONNX graph that the environment variable MINILM_ONNX names."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class MiniLm(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MINILM_ONNX"], options, providers=["CPUExecutionProvider"]
        )
        # One batch at a time, as on a GPU; the event loop stays free to answer health probes meanwhile.
        self.device = ThreadPoolExecutor(max_workers=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        loop = asyncio.get_running_loop()
        (embedding,) = await loop.run_in_executor(self.device, self.session.run, ["embedding"], feed)
        output = NumpyCodec.encode_output("embedding", embedding)
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=[output])

    async def unload(self) -> bool:
        self.device.shutdown()
        return True

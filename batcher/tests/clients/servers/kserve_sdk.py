"""The KServe SDK's server with a model whose answers depend on each row alone: V1, V2 and gRPC.

Usage: kserve_sdk.py HTTP_PORT GRPC_PORT
"""

import sys
import time

import kserve
import numpy as np

# Long enough that requests that come meanwhile wait, so that the batcher has something to merge.
CALL_S = 0.02


class Mirror(kserve.Model):
    def __init__(self) -> None:
        super().__init__("mirror")
        self.ready = True

    def predict(self, payload, headers=None, **_rest):
        time.sleep(CALL_S)
        if isinstance(payload, dict):
            return {"predictions": [[2 * value for value in row] for row in payload["instances"]]}
        outputs = []
        for tensor in payload.inputs:
            array = tensor.as_numpy()
            array = array * array.dtype.type(2) if tensor.name == "number" else array
            output = kserve.InferOutput(f"{tensor.name}_out", list(array.shape), tensor.datatype)
            output.set_data_from_numpy(np.ascontiguousarray(array), binary_data=False)
            outputs.append(output)
        return kserve.InferResponse(payload.id or "", self.name, outputs)


if __name__ == "__main__":
    http_port, grpc_port = (int(port) for port in sys.argv[1:3])
    sys.argv[1:] = []
    kserve.ModelServer(http_port=http_port, grpc_port=grpc_port, workers=1, access_log_format=None).start([Mirror()])

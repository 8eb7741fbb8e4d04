"""The simulated model in the KServe SDK, which has no batching: one request at a time, V2 REST."""

import os
import time

import kserve

ALPHA_S = float(os.environ["COMPARE_ALPHA_MS"]) / 1e3
BETA_S = float(os.environ["COMPARE_BETA_MS"]) / 1e3


class Reference(kserve.Model):
    def __init__(self) -> None:
        super().__init__("reference")
        self.ready = True

    def predict(self, payload: kserve.InferRequest, headers=None, **_rest) -> kserve.InferResponse:
        tensors = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        ids, x = tensors["id"], tensors["x"]
        time.sleep(ALPHA_S + BETA_S * len(ids))
        outputs = []
        for name, datatype, array in (("id", "INT64", ids), ("y", "FP32", 3 * x + ids % 1024)):
            output = kserve.InferOutput(name, list(array.shape), datatype)
            output.set_data_from_numpy(array.astype("int64" if name == "id" else "float32"), binary_data=False)
            outputs.append(output)
        return kserve.InferResponse(payload.id or "", self.name, outputs)


if __name__ == "__main__":
    port = int(os.environ["COMPARE_PORT"])
    kserve.ModelServer(http_port=port, enable_grpc=False, workers=1, access_log_format=None).start([Reference()])

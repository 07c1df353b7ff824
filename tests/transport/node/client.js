// Calls the test server at argv[2] and prints what came as JSON, for test_grpc_tools.py.
const grpc = require("@grpc/grpc-js");

const identity = (bytes) => bytes;
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
});

function call(method, message, options = {}, cancelAfter = null) {
  return new Promise((resolve) => {
    const running = client.makeUnaryRequest(
      `/test.Test/${method}`, identity, identity, message, new grpc.Metadata(), options,
      (error, answer) => resolve(error ? { code: error.code, details: error.details } : { answer }));
    if (cancelAfter !== null) setTimeout(() => running.cancel(), cancelAfter);
  });
}

(async () => {
  const small = await call("Echo", Buffer.from("héllo"));
  const large = Buffer.alloc(10_000_000, "abcdefg");
  const big = await call("Echo", large);
  const many = await Promise.all([...Array(100).keys()].map((n) => call("EchoLater", Buffer.from(String(n)))));
  const failed = await call("Fail", Buffer.from("NOT_FOUND no model\n\"ünï\" 100%"));
  const unknown = await call("Nothing", Buffer.from(""));
  const late = await call("Wait", Buffer.from(""), { deadline: Date.now() + 50 });
  const cancelled = await call("Wait", Buffer.from(""), {}, 50);
  client.close();
  console.log(JSON.stringify({
    small: small.answer.toString(),
    big: large.equals(big.answer),
    many: many.map(({ answer }) => answer.toString()),
    failed, unknown, late: late.code, cancelled: cancelled.code,
  }));
})();

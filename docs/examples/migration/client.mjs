// npm install @langchain/core@0.3.80
import { RemoteRunnable } from "@langchain/core/runnables/remote";

const explain = new RemoteRunnable({
  url: "http://127.0.0.1:8000/explain",
  options: { timeout: 600_000 }, // left out: 60 s for a whole stream
});

const leaving = new AbortController(); // `break` alone would not tell the server
for await (const chunk of await explain.stream("rain", { signal: leaving.signal })) {
  console.log(chunk);
}

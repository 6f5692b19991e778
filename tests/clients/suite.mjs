// suite.mjs: every test against the server at REVERIE_URL; TESTS=WORD[,WORD] runs those whose name has a word.
import { runAll } from "./kit.mjs";

await import("./openai.mjs");
await import("./ai.mjs");
await import("./sdk.mjs");
process.exit(await runAll());

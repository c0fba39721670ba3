// The official SDKs as clients: node ai-client.mjs SDK URL MODEL. Prints what they made of the answers as one line of JSON.
import OpenAI from 'openai';
import Anthropic from '@anthropic-ai/sdk';

const [, , sdk, url, model] = process.argv;
const messages = [{ role: 'user', content: 'hello' }];
const result = {};

async function attempt(name, run) {
  try {
    result[name] = await run();
  } catch (error) {
    result[name] = { error: error.constructor.name, status: error.status ?? null };
  }
}

if (sdk === 'openai') {
  const client = new OpenAI({ apiKey: 'of-the-client', baseURL: `${url}/v1`, maxRetries: 0 });
  await attempt('whole', async () => {
    const answer = await client.chat.completions.create({ model, messages });
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason, tokens: answer.usage?.total_tokens ?? null };
  });
  await attempt('stream', async () => {
    let text = '', finish = null, tokens = null, empty = 0, tool = null;
    for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
      text += chunk.choices[0]?.delta?.content ?? '';
      tool = chunk.choices[0]?.delta?.tool_calls?.[0]?.function?.name ?? tool;
      finish = chunk.choices[0]?.finish_reason ?? finish;
      tokens = chunk.usage?.total_tokens ?? tokens;
      empty += chunk.choices.length === 0 ? 1 : 0;
    }
    return { text, finish, tokens, empty, tool };
  });
  await attempt('responses', async () => {
    const stream = client.responses.stream({ model, input: 'hello' });
    let text = '';
    stream.on('response.output_text.delta', (event) => { text += event.delta; });
    const final = await stream.finalResponse();
    return { text, final: final.output_text, tokens: final.usage?.total_tokens ?? null };
  });
  await attempt('embeddings', async () => {
    const answer = await client.embeddings.create({ model, input: 'hello', encoding_format: 'float' });
    return { vector: answer.data[0].embedding, tokens: answer.usage.total_tokens };
  });
} else {
  const client = new Anthropic({ apiKey: 'of-the-client', baseURL: url, maxRetries: 0 });
  const request = { model, max_tokens: 100, messages };
  await attempt('whole', async () => {
    const answer = await client.messages.create(request);
    return { text: answer.content[0].text, finish: answer.stop_reason, tokens: answer.usage.output_tokens };
  });
  await attempt('stream', async () => {
    let text = '';
    const stream = client.messages.stream(request).on('text', (piece) => { text += piece; });
    const final = await stream.finalMessage();
    return { text, finish: final.stop_reason, tokens: final.usage.output_tokens, blocks: final.content.map((block) => block.type) };
  });
}
console.log(JSON.stringify(result));

"""Who answers: one file a backend, each opened by a function named like its file.

batch_api     a server's batch API: the requests of openai_api as files, answered within a day, for less money
local         a transformers model on this machine's CPU or GPU
openai_api    any server that speaks OpenAI's chat API, vLLM included
scripted      deterministic text without a model, for tests and dry runs
vllm_offline  a vLLM engine in this process, for a node with GPUs
vllm_server   a vLLM server that is started for the run, started again where it ends, and asked as openai_api asks

Every answer goes through `ledger`, and none is asked for twice. `in_flight` keeps many requests on a wire at once, and
`chat_format` reads and writes what goes over it.
"""

"A GGUF file that loads in a blink: for tests of what is done with such files, not of what a model says"


def write_gguf(path, size=16, context=256):
    "A language model of one layer that knows nothing, in one file"
    import numpy as np
    from gguf import GGUFWriter
    words = ["<unk>", "<s>", "</s>", *map(chr, range(33, 127)), "Ġ", "Ċ", "ab"]
    facts = {"name": "tiny", "block_count": 1, "context_length": context, "embedding_length": size, "feed_forward_length": size, "head_count": 2,
             "head_count_kv": 2, "rope_dimension_count": size // 2, "layer_norm_rms_eps": 1e-5, "vocab_size": len(words), "tokenizer_model": "gpt2",
             "token_list": words, "token_merges": ["a b"], "bos_token_id": 1, "eos_token_id": 2}
    square = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {"token_embd": (len(words), size), "output_norm": (size,), "output": (len(words), size),
              **{f"blk.0.{name}": (size,) for name in ("attn_norm", "ffn_norm")}, **{f"blk.0.{name}": (size, size) for name in square}}
    writer = GGUFWriter(path, "llama")
    for name, value in facts.items(): getattr(writer, f"add_{name}")(value)
    for name, shape in shapes.items(): writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close): step()

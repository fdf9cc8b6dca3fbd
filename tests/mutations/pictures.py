"Faults of pictures: what is opened, what is refused, what is fetched, what a model is shown"
from mutations import Mutation

PICTURES, DOCUMENTS, DOWNLOADS = "rerankers/pictures.py", "rerankers/documents.py", "rerankers/web/downloads.py"
SEEING, IMAGES, CLIP = "rerankers/engine/seeing.py", "rerankers/engine/images.py", "rerankers/backends/clip.py"
SIGHTS, PAGES, CHAIN = "rerankers/engine/sights.py", "rerankers/backends/colvision_models.py", "rerankers/backends/seeing_chain.py"
KINDS = "tests/test_vision_families.py -k "
OPEN, FETCH, SEE = "tests/test_pictures.py", "tests/test_downloads.py", "tests/test_vision.py -k "

MUTATIONS = [
    Mutation(PICTURES, "lies = image.format != \"TIFF\" and image", "lies = image", OPEN, "a TIFF file that lies on its side is measured wrongly"),
    Mutation(PICTURES, "if max(image.size) > THINNEST * min(image.size):", "if False:", OPEN, "a strip fills the memory"),
    Mutation(PICTURES, "except (UnusablePicture, MemoryError): raise", "except MemoryError: raise", OPEN, "the reason why a picture is refused is lost"),
    Mutation(PICTURES, "low, high = (0, 65535) if marked else", "low, high = (0, 255) if marked else", OPEN, "16-bit pictures are white"),
    Mutation(PICTURES, "return Picture(base64=in_line(text)) if is_base64(text) else Picture(text)", "return Picture(text)", OPEN, "base64 is a path"),
    Mutation(PICTURES, "if FETCHED.match(picture.url or \"\"): return", "if picture.url: return", OPEN, "a service is told the path of a file"),
    Mutation(PICTURES, "image = image.convert(\"I\").convert(\"I;16\")", "pass", OPEN, "scans with the larger byte first are white"),
    Mutation("rerankers/ocr.py", "if one.picture != other.picture or not one.box", "if not one.box", "tests/test_ocr.py", "a row reaches over two pages"),
    Mutation(DOCUMENTS, "if not isinstance(text, str): raise\n        return found", "raise", OPEN, "a shop's record with a picture of its own is refused"),
    Mutation(DOCUMENTS, "[k for k in shown if text is None or not isinstance(record[k], str)]", "[k for k in shown]", OPEN, "the link of a record is lost"),
    Mutation("rerankers/rankers.py", "kept = [i for i, doc in enumerate(task.documents) if not doc.pictures or view(doc).strip()]", "kept = [*range(len(task.documents))]",
             "tests/test_ocr.py", "a picture without words is ranked as an empty text"),
    Mutation("rerankers/web/providers.py", "if sight.bare and kind == \"base64\": sent = sent.partition(\",\")[2]", "", "tests/test_pictures_sent.py", "bare base64 has the beginning of a data URL"),
    Mutation("rerankers/backends/api.py", "parts = evenly([t for t in texts if says(t)], self.chunk_size)", "parts = evenly([t for t in texts if t.strip()], self.chunk_size)",
             "tests/test_pictures_sent.py", "pictures without a text are not sent"),
    Mutation("rerankers/llm/chat.py", "free = [char for char in map(chr, MARKS) if char not in taken]", "free = list(map(chr, MARKS))", "tests/test_pictures_sent.py",
             "a character of a text becomes a picture"),
    Mutation("rerankers/ocr.py", "if key not in self.kept: ", "", "tests/test_ocr.py", "a picture is read for each query"),
    Mutation("rerankers/rankers.py", "if not self.sees_queries and any(pictures_in(t.query) for t in tasks):", "if False:", OPEN, "a query's picture is ignored"),
    Mutation("rerankers/rankers.py", "found = next((doc for task in tasks for doc in task.documents if picture in doc.pictures), None)", "found = tasks[0].documents[0]",
             OPEN, "an error names another document"),
    Mutation("rerankers/results.py", "return {\"text\": str(query), \"image\": pictures} if pictures else query", "return query", OPEN, "a saved query has no picture"),
    Mutation(DOWNLOADS, "local and not hop", "local", FETCH, "a redirect leads to this machine"),
    Mutation(DOWNLOADS, "if private is not None: raise", "if False: raise", FETCH, "what only this machine can reach is fetched"),
    Mutation(IMAGES, "for token in made[\"added_tokens\"]: token[\"content\"] = hidden(token[\"content\"])", "pass", SEE + "characters", "a text ends a turn"),
    Mutation(SEEING, "for picture in dict.fromkeys(shown) if picture not in seen]", "for picture in dict.fromkeys(shown)]", SEE + "'tower and mono'", "the vision tower runs for each batch"),
    Mutation(SEEING, "if not left[picture]: del seen[picture]", "pass", KINDS + "'longer and colqwen2'", "memory grows with the number of pages"),
    Mutation(CLIP, "lower_case = padded = True", "lower_case = True", SEE + "'each_case and siglip'", "SigLIP reads texts without their padding"),
    Mutation(PAGES, "starts = [self.bos] if self.own else [self.bos, self.bos]", "starts = [self.bos]", KINDS + "'engines and colpali'", "ColPali's page has one token too few"),
    Mutation(PAGES, "\"input_ids\": ids, \"token_type_ids\": [[0] * len(row) for row in ids]", "\"input_ids\": ids", KINDS + "padding", "ColPali's query is read from left to right alone"),
    Mutation(PAGES, "(r\"^(model\\.)?language_model\\.\"", "(r\"^model\\.language_model\\.\"", KINDS + "adapters", "names of weights as transformers 5 writes them are not known"),
    Mutation(SIGHTS, "return {**super().placing(inputs), \"token_type_ids\": kinds}", "return super().placing(inputs)", KINDS + "'chat and gemma3'", "the tokens of Gemma's picture do not see one another"),
    Mutation(SIGHTS, "_, rows, columns = self.processor", "_, columns, rows = self.processor", KINDS + "'chat and idefics3'", "tiles are named by the wrong rows and columns"),
    Mutation(SIGHTS, "inputs[\"input_ids\"].new_zeros(places.shape)", "inputs[\"input_ids\"].new_ones(places.shape)", KINDS + "padding",
             "PaliGemma's prompt is read from left to right"),
    Mutation(SIGHTS, " - (config.vision_feature_select_strategy == \"default\")", "", KINDS + "'chat and llava'", "LLaVA's picture has one token too many"),
    Mutation("rerankers/backends/heat_maps.py", ".swapaxes(1, 2)", "", KINDS + "'heat and colsmol'", "the heat map of a page in tiles is shuffled"),
    Mutation("rerankers/streams.py", "return check_query(query), ", "return str(query), ", OPEN, "a stream ranks by what a picture is called"),
    Mutation("rerankers/engine/picture_prompts.py", "return {**added, ", "return {**", KINDS + "'chat and gemma3'", "a turn's token is read as characters"),
    Mutation(CHAIN, "[(\"system\", [self.prompt])] if self.prompt else []", "[]", KINDS + "sentence_transformers", "the folder's system message is lost"),
    Mutation("rerankers/claims.py", "if matches(checkpoint.chain, (pattern,)) and", "if", KINDS + "'chat and idefics3'", "any model that sees is taken for sentence-transformers' cross-encoder"),
]

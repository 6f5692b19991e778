"""The demo model's words and its four tokenizers, in the file forms of CLIP, T5 and Llama 3.

A token of any tokenizer belongs to one class: a word the model was taught, or "unknown".  The model
is trained on classes; the export copies the row of the class to every token of it.  So synonyms
share a meaning, capitals change nothing, and text outside the vocabulary, however it is split,
reads as one and the same unknown word, which training shows often enough to be ignored.
"""
import json
import os
import re
from functools import lru_cache

WORDS = """
, a above air an and at background balloon beautiful big bird birds black blue boat bottom bright
brown buildings by cactus calm center circle city clear clouds cottage crescent dark dawn day
daytime desert draw drawing dunes during dusk early evening field flock flying forest front full
golden grassy gray green heart hills hot house huge illustration image in is landscape large left
lighthouse lightning little meadow middle moon morning mountain mountains near next night noon
ocean of on orange over painting pastel photo picture pine pink purple range red right rolling
sailboat sailing sand sea side sky skyline small snow snowy soft some square star starry stars
storm stormy sun sunny sunrise sunset tall teal the thunderstorm tiny to top tree trees triangle
under view water white winter with yellow
""".split()
# word = the taught word it means
SAME = dict(pair.split('=') for pair in """
.=, ;=, :=, !=, &=and grey=gray crimson=red scarlet=red ruby=red violet=purple lilac=purple
lavender=purple magenta=pink rose=pink navy=blue azure=blue cobalt=blue turquoise=teal cyan=teal
aqua=teal emerald=green lime=green olive=green ivory=white cream=white silver=gray tan=brown
chocolate=brown amber=orange gold=yellow lemon=yellow ebony=black cabin=cottage hut=cottage
home=house barn=house villa=house farmhouse=house building=house houses=house homes=house
cottages=cottage yacht=sailboat ship=boat vessel=boat boats=boat sailboats=sailboat ships=boat
balloons=balloon airballoon=balloon sparrow=bird eagle=bird crow=bird raven=bird gull=bird
seagull=bird swan=bird dove=bird gulls=birds seagulls=birds geese=birds crows=birds swallows=birds
cacti=cactus cactuses=cactus beacon=lighthouse lighthouses=lighthouse oak=tree maple=tree
birch=tree pines=trees fir=pine firs=trees spruce=pine conifers=trees woods=forest woodland=forest
wood=forest jungle=forest forests=forest peak=mountain peaks=mountains summit=mountain
alps=mountains summits=mountains hill=hills hillside=hills countryside=hills valley=hills
grassland=hills grass=grassy pasture=meadow meadows=meadow fields=field seaside=sea seas=sea
coast=sea beach=sea shore=sea lake=water waves=water bay=sea oceans=ocean harbor=sea harbour=sea
sahara=desert dune=dunes deserts=desert town=city downtown=city skyscrapers=buildings
skyscraper=buildings towers=buildings metropolis=city cities=city cityscape=skyline street=city
ice=snow frozen=snowy icy=snowy wintry=winter snowfield=snow snowcapped=snowy twilight=dusk
nightfall=dusk gloaming=dusk sundown=sunset nighttime=night midnight=night nights=night
nocturnal=night moonlight=moon moonlit=moon lunar=moon starlight=stars starlit=starry
sunlight=sunny sunshine=sunny midday=noon afternoon=day days=day daybreak=dawn daylight=daytime
tempest=storm thunder=thunderstorm rainy=stormy rain=storm storms=storm cloudy=clouds cloud=clouds
overcast=clouds bluish=blue reddish=red circles=circle round=circle disc=circle disk=circle
ball=circle sphere=circle dot=circle squares=square box=square cube=square triangles=triangle
hearts=heart love=heart triangular=triangle backdrop=background centre=center central=center
centered=center beside=next leftmost=left rightmost=right upper=top lower=bottom below=bottom
tower=lighthouse mini=tiny massive=huge giant=huge gigantic=huge enormous=huge tinier=tiny
high=tall bright=bright darkness=dark soaring=flying floating=flying drifting=flying
pretty=beautiful lovely=beautiful gorgeous=beautiful wonderful=beautiful scenic=beautiful
artwork=painting art=painting sketch=drawing render=illustration pic=picture photograph=photo
portrait=picture scenery=landscape scene=landscape vista=view upon=on onto=on inside=in within=in
into=in across=over beneath=under behind=over around=near nearby=near beyond=over this=the
that=the these=the those=the one=a his=the her=the my=the its=the their=the our=the your=the
are=is was=is has=with plus=and also=and while=and
""".split())
# common words without a taught meaning: one token each instead of many pieces
NEUTRAL = """
about abstract adventure ago airplane all alone along always am amazing ancient angle animal
animals anime another any apple arch arms artistic artstation as atmosphere atmospheric autumn
away awesome baby back bad banner bare bear bed been before being best better between bicycle bike
blend blossom blur blurry body bold book both bowl boy branch bread breathtaking bridge brush but
butterfly cake call calmly camera can canvas car cartoon castle cat cats cave chair character
charming cheerful child children chill church cinematic classic clean close closeup coffee cold
color colored colorful colour coloured colourful comic composition concept contrast cool corner
cosy could cow cozy cream crisp cropped cup cute cyberpunk dancing deep deer deformed delicate
depth design detail detailed details did different digital dirt dog dogs door down dragon dramatic
dream dreamy dress dusty each earth edge elegant elephant empty epic eye eyes fabulous face
falling family fantasy far farm fence few fine fire fish flag flat floor flower flowers fluffy
flow fog foggy food foot for foreground fox fresh friendly from fruit fun funny future galaxy
garden gentle ghost girl give glass glow glowing go good grand graphic great ground hair hand
hands hanging happy hat hazy he head hdr heaven heavy here hero highly hd highres highway hold
holding horizon horse how i if illustrated impressionist impressive inspired intricate island
isolated it jpeg jpg just key kid king kitchen kitten ladder lamp land large-scale lady later
laughing leaf leaves legs light lighting lights like line lines lion lit live logo lonely long
look looking lot lots low lowres lush machine made magic magical majestic make man many map market
masterpiece matte me medieval men mild minimal minimalist mist misty modern monster mood moody
mouse mouth moving mud music mysterious name nature neon new nice no noise noisy none nostalgic
not nothing number object objects off oil old open other out outside own painted paper park parked
part path peaceful people perfect person perspective photographic photorealistic piano pixel place
plain plane planet plant plants plate please png poor portal pot poster power princess print
quality queen quick quiet rabbit radiant railway rainbow rays real realism realistic reflect
reflecting reflection reflections relaxing resolution retro river road robot rock rocks rocky
romantic roof room ruins running sad saturated say school sci-fi sculpture season see serene set
shadow shadows shape shapes sharp she shine shining shiny shop show silhouette silhouettes simple
single sit sitting skin sleeping slow smile smiling smoke smooth smoothly something song space
spaceship sparkling splendid spring stand standing standard steam stone stream strong studio
stunning style stylized sublime summer sunflower sunflowers super surreal sweet table tale temple
tent text texture than there they thick thin thing things three through tiger time toy traditional
trail train tranquil travel trending tropical truck tulips turtle two ufo ugly ultra unreal up us
use van vast vector vehicle very vibrant village vintage vivid walk walking wall wallpaper want
warm watch watercolor watercolour waterfall watermark way we weather well were whale what wheel
when where which who wide wild will wind window windows windy witch without wizard wolf woman
women wonder words world worst would year yes you young zoo
""".split()

PAD, EOS, UNK, BOS = range(4)
ROWS = 24       # of text, for every encoder; the model card says the same
FIRST = 4
CLASS = {w: FIRST + i for i, w in enumerate(WORDS)}
CLASS.update({w: CLASS[to] for w, to in SAME.items()})
CLASS.update({w: UNK for w in NEUTRAL if re.fullmatch('[a-z]+', w) and w not in CLASS})
CLASSES = FIRST + len(WORDS)
LETTERS = 'abcdefghijklmnopqrstuvwxyz'
PUNCTUATION = [w for w in CLASS if not w.isalpha()]
TEXT = sorted(w for w in CLASS if w.isalpha())
PAIRS = [a + b for a in LETTERS for b in LETTERS]


def byte_symbols():
    """The printable stand-in of every byte, as in GPT-2's vocabulary."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in out:
            out[b] = chr(256 + n)
            n += 1
    return out


SYMBOL = byte_symbols()


def merge(parts, pair):
    out, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


def learn_merges(words):
    """Byte pair encoding until every word is one symbol, then all pairs of letters."""
    parts, merges = [list(w[:-1]) + [w[-1] + '</w>'] for w in words], []
    while True:
        count = {}
        for p in parts:
            for pair in zip(p, p[1:]):
                count[pair] = count.get(pair, 0) + 1
        if not count:
            break
        best = min(count, key=lambda q: (-count[q], q))
        merges.append(best)
        parts = [merge(p, best) for p in parts]
    known = set(merges)
    for a in LETTERS:
        for b in LETTERS:
            for pair in ((a, b), (a, b + '</w>')):
                # a pair that would spell a taught word inside another word stays apart
                if pair not in known:
                    merges.append(pair)
    return merges


class Clip:
    """Lower case, words apart, byte pair encoding with </w> at the end of a word."""

    def __init__(self):
        self.merges = learn_merges(TEXT)
        self.rank = {m: i for i, m in enumerate(self.merges)}
        base = [SYMBOL[b] for b in sorted(SYMBOL, key=lambda b: SYMBOL[b])]
        tokens = base + [t + '</w>' for t in base] + [a + b for a, b in self.merges]
        self.tokens = list(dict.fromkeys(tokens)) + ['<|startoftext|>', '<|endoftext|>']
        self.classes = [UNK] * len(self.tokens)
        for i, t in enumerate(self.tokens):
            if t.endswith('</w>'):
                self.classes[i] = CLASS.get(t[:-4], UNK)
        self.classes[-2:] = [BOS, EOS]
        self.index = {t: i for i, t in enumerate(self.tokens)}

    @lru_cache(65536)
    def word(self, w):
        parts = [SYMBOL[b] for b in w.encode()]
        parts[-1] += '</w>'
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda q: self.rank.get(q, 1 << 30))
            if best not in self.rank:
                break
            parts = merge(parts, best)
        return [self.classes[self.index[p]] for p in parts]

    def encode(self, text, length):
        out = []
        for w in re.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+",
                            ' '.join(text.lower().split())):
            out += self.word(w)
        out = [BOS] + out[:length - 2] + [EOS]
        return out + [EOS] * (length - len(out)), len(out)

    def save(self, folder, pad):
        os.makedirs(folder, exist_ok=True)
        dump(f'{folder}/vocab.json', self.index)
        with open(f'{folder}/merges.txt', 'w') as f:
            f.write('#version: 0.2\n' + ''.join(f'{a} {b}\n' for a, b in self.merges))
        end, n = '<|endoftext|>', len(self.tokens)
        special = {str(n - 2): '<|startoftext|>', str(n - 1): end}
        if pad != end:
            special[str(self.index[pad])] = pad
        flags = dict(lstrip=False, normalized=False, rstrip=False, single_word=False)
        dump(f'{folder}/tokenizer_config.json', dict(
            add_prefix_space=False, added_tokens_decoder={
                k: dict(content=v, special=True, **flags) for k, v in special.items()},
            bos_token='<|startoftext|>', clean_up_tokenization_spaces=True, do_lower_case=True,
            eos_token=end, errors='replace', model_max_length=32, pad_token=pad,
            tokenizer_class='CLIPTokenizer', unk_token=end))
        dump(f'{folder}/special_tokens_map.json', dict(
            bos_token='<|startoftext|>', eos_token=end, pad_token=pad, unk_token=end))


def spellings(word):
    return dict.fromkeys([word, word.capitalize()])


class T5:
    """A unigram model: words with the mark of a space before them, letters, pairs of letters."""
    MARK = '\u2581'

    def __init__(self):
        pieces = [(self.MARK + s, -4., CLASS[w]) for w in TEXT for s in spellings(w)]
        pieces += [(w, -3., CLASS[w]) for w in PUNCTUATION]
        pieces += [(self.MARK, -6., UNK)]
        pieces += [(p, -9., UNK) for p in PAIRS]
        pieces += [(chr(c), -6., UNK) for c in range(33, 127) if chr(c) not in PUNCTUATION]
        self.pieces = [('<pad>', 0., PAD), ('</s>', 0., EOS), ('<unk>', 0., UNK)] + pieces
        self.classes = [c for _, _, c in self.pieces]
        self.score = {p: (s, c) for p, s, c in self.pieces[3:]}
        self.longest = max(len(p) for p in self.score)

    @lru_cache(65536)
    def word(self, w):
        """The best split of one word (mark included), as classes."""
        best = [(0., None, None)] + [(-1e9, None, None)] * len(w)
        for end in range(1, len(w) + 1):
            for start in range(max(0, end - self.longest), end):
                s, c = self.score.get(w[start:end], (None, None))
                if s is None:
                    if end - start > 1:
                        continue
                    s, c = -100., UNK
                if best[start][0] + s > best[end][0]:
                    best[end] = (best[start][0] + s, start, c)
        out, at = [], len(w)
        while at:
            out.append(best[at][2])
            at = best[at][1]
        return out[::-1]

    def encode(self, text, length):
        out = [c for w in text.split() for c in self.word(self.MARK + w)][:length - 1] + [EOS]
        return out + [PAD] * (length - len(out)), len(out)

    def save(self, folder):
        os.makedirs(folder, exist_ok=True)
        special = ['<pad>', '</s>', '<unk>']
        flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        space = dict(type='Metaspace', replacement=self.MARK, prepend_scheme='always', split=True)
        end = dict(SpecialToken=dict(id='</s>', type_id=0))
        pair = [dict(Sequence=dict(id=q, type_id=0)) for q in 'AB']
        dump(f'{folder}/tokenizer.json', dict(
            version='1.0', truncation=None, padding=None,
            added_tokens=[dict(id=i, content=t, **flags) for i, t in enumerate(special)],
            normalizer=None,
            pre_tokenizer=dict(type='Sequence', pretokenizers=[
                dict(type='WhitespaceSplit'), space]),
            post_processor=dict(
                type='TemplateProcessing', single=[pair[0], end], pair=[pair[0], end, pair[1], end],
                special_tokens={'</s>': dict(id='</s>', ids=[1], tokens=['</s>'])}),
            decoder=space,
            model=dict(type='Unigram', unk_id=2, vocab=[[p, s] for p, s, _ in self.pieces],
                       byte_fallback=False)))
        dump(f'{folder}/tokenizer_config.json', dict(
            added_tokens_decoder={str(i): dict(content=t, **flags) for i, t in enumerate(special)},
            clean_up_tokenization_spaces=True, eos_token='</s>', extra_ids=0, model_max_length=32,
            pad_token='<pad>', tokenizer_class='T5Tokenizer', unk_token='<unk>'))
        dump(f'{folder}/special_tokens_map.json',
             dict(eos_token='</s>', pad_token='<pad>', unk_token='<unk>'))


class Llama:
    """Byte-level pairs behind whole words, which are looked up before any merge is tried."""
    SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
             r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    # the same for Python's re: a letter is [^\W\d_], good enough for captions
    PYTHON = re.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\w]?[^\W\d_]+|\d{1,3}|"
                        r" ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

    def __init__(self):
        space = SYMBOL[32]
        table = {SYMBOL[b]: UNK for b in sorted(SYMBOL, key=lambda b: SYMBOL[b])}
        self.merges = [(p[0], p[1]) for p in PAIRS if p not in CLASS]
        table.update({a + b: UNK for a, b in self.merges})
        for w in TEXT:
            for s in spellings(w):
                table.update({s: CLASS[w], space + s: CLASS[w]})
        for w in PUNCTUATION:
            table.update({w: CLASS[w], space + w: CLASS[w]})
        table.update({'<|begin_of_text|>': BOS, '<|eot_id|>': PAD})
        self.tokens, self.classes, self.table = list(table), list(table.values()), table
        self.rank = {m: i for i, m in enumerate(self.merges)}

    @lru_cache(65536)
    def word(self, w):
        s = ''.join(SYMBOL[b] for b in w.encode())
        if s in self.table:
            return [self.table[s]]
        parts = list(s)
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda q: self.rank.get(q, 1 << 30))
            if best not in self.rank:
                break
            parts = merge(parts, best)
        return [self.table[p] for p in parts]

    def encode(self, text, length):
        out = [c for w in self.PYTHON.findall(text) for c in self.word(w)]
        out = [BOS] + out[:length - 1]
        return out + [PAD] * (length - len(out)), len(out)

    def save(self, folder):
        os.makedirs(folder, exist_ok=True)
        n = len(self.tokens)
        special = {n - 2: '<|begin_of_text|>', n - 1: '<|eot_id|>'}
        flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        begin = '<|begin_of_text|>'
        start = dict(SpecialToken=dict(id=begin, type_id=0))
        level = dict(type='ByteLevel', add_prefix_space=False, trim_offsets=True, use_regex=False)
        dump(f'{folder}/tokenizer.json', dict(
            version='1.0', truncation=None, padding=None,
            added_tokens=[dict(id=i, content=t, **flags) for i, t in special.items()],
            normalizer=None,
            pre_tokenizer=dict(type='Sequence', pretokenizers=[
                dict(type='Split', pattern=dict(Regex=self.SPLIT), behavior='Isolated',
                     invert=False), level]),
            post_processor=dict(
                type='TemplateProcessing', single=[start, dict(Sequence=dict(id='A', type_id=0))],
                pair=[start, dict(Sequence=dict(id='A', type_id=0)),
                      dict(Sequence=dict(id='B', type_id=1))],
                special_tokens={begin: dict(id=begin, ids=[n - 2], tokens=[begin])}),
            decoder=dict(type='ByteLevel', add_prefix_space=True, trim_offsets=True,
                         use_regex=True),
            model=dict(type='BPE', dropout=None, unk_token=None, continuing_subword_prefix=None,
                       end_of_word_suffix=None, fuse_unk=False, byte_fallback=False,
                       ignore_merges=True,
                       vocab={t: i for i, t in enumerate(self.tokens[:-2])},
                       merges=[f'{a} {b}' for a, b in self.merges])))
        dump(f'{folder}/tokenizer_config.json', dict(
            added_tokens_decoder={str(i): dict(content=t, **flags) for i, t in special.items()},
            bos_token=begin, clean_up_tokenization_spaces=True, eos_token='<|eot_id|>',
            model_input_names=['input_ids', 'attention_mask'], model_max_length=32,
            tokenizer_class='PreTrainedTokenizerFast'))
        dump(f'{folder}/special_tokens_map.json', dict(bos_token=begin, eos_token='<|eot_id|>'))


class Vocabulary:
    """All four tokenizers on a list of captions: class ids and lengths as nested lists."""

    def __init__(self):
        self.clip, self.t5, self.llama = Clip(), T5(), Llama()

    def encode(self, captions, length):
        return {name: tuple(zip(*(part.encode(c, length) for c in captions)))
                for name, part in (('clip', self.clip), ('t5', self.t5), ('llama', self.llama))}


def dump(path, value):
    with open(path, 'w') as f:
        json.dump(value, f, ensure_ascii=False, indent=1)


if __name__ == '__main__':
    import captions
    missing = [w for w in captions.words() if w not in CLASS or CLASS[w] == UNK]
    v = Vocabulary()
    bad = [w for w in TEXT if v.clip.word(w) != [CLASS[w]] or v.llama.word(' ' + w) != [CLASS[w]]
           or v.t5.word(T5.MARK + w) != [CLASS[w]]]
    print(len(v.clip.tokens), len(v.t5.pieces), len(v.llama.tokens), 'tokens;', CLASSES, 'classes;',
          'not taught:', missing, 'split:', bad)
    print(v.encode(['A red house, Blurry zebra on hills'], 20))

"""Turns the attributes of a picture into a sentence, in many phrasings.

Only what a caption says must be obeyed; what it leaves out is free.  Every word used here has to be
in vocabulary.WORDS (captions.words() is compared with it by vocabulary.py when run as a program).
"""
import numpy as np

import scenes
from scenes import IN_AIR, pick

SKY = {
    'day': ['on a sunny day', 'under a clear blue sky', 'in the daytime', 'under a bright sky',
            'on a clear day', 'at noon', 'under a blue sky', 'by day'],
    'sunset': ['at sunset', 'under an orange sunset sky', 'in the evening at sunset',
               'during a golden sunset', 'in the evening', 'at dusk', 'in the golden evening'],
    'night': ['at night', 'under a starry night sky', 'at night under the stars', 'under the stars',
              'with stars', 'on a starry night', 'in the dark night'],
    'storm': ['under a stormy sky', 'in a storm', 'during a thunderstorm',
              'with dark storm clouds and lightning', 'with lightning'],
    'dawn': ['at dawn', 'under a soft pink sky', 'in the early morning', 'at sunrise',
             'in the morning', 'on a pastel morning'],
}
SKY_ADJECTIVE = {'day': ['sunny', 'bright'], 'sunset': ['sunset', 'golden evening'],
                 'night': ['night', 'starry night', 'dark night'], 'storm': ['stormy'],
                 'dawn': ['morning', 'pastel', 'dawn']}
SKY_NOUN = {'day': ['a sunny day', 'a clear day', 'a blue sky'],
            'sunset': ['sunset', 'a golden sunset', 'a sunset', 'evening'],
            'night': ['night', 'a starry night', 'a starry sky', 'stars'],
            'storm': ['a storm', 'a thunderstorm', 'lightning'],
            'dawn': ['dawn', 'sunrise', 'early morning', 'a pink morning']}
TERRAIN = {
    'mountains': ['mountains', 'tall mountains', 'a mountain range', 'the mountains'],
    'hills': ['green hills', 'rolling hills', 'a grassy meadow', 'hills', 'the hills', 'a meadow'],
    'sea': ['the sea', 'the ocean', 'a calm sea', 'the water', 'a sea'],
    'desert': ['a desert', 'sand dunes', 'the desert', 'dunes'],
    'forest': ['a pine forest', 'a forest', 'the forest', 'pine trees', 'a forest of pine trees'],
    'city': ['a city skyline', 'a city', 'city buildings', 'tall buildings', 'the city'],
    'snow': ['a snowy field', 'snowy hills', 'a winter landscape', 'snow', 'the snow', 'winter'],
}
TERRAIN_TAG = {'mountains': ['mountains', 'snowy mountains'], 'hills': ['hills', 'green hills'],
               'sea': ['sea', 'ocean'], 'desert': ['desert', 'dunes'], 'forest': ['forest'],
               'city': ['city', 'city skyline'], 'snow': ['snow', 'snowy field', 'winter']}
PLACE = {'mountains': ['in front of', 'in', 'near'], 'hills': ['on', 'in'], 'sea': ['on', 'at'],
         'desert': ['in'], 'forest': ['in', 'in front of'], 'city': ['in front of', 'in'],
         'snow': ['in', 'on']}
NOUN = {'house': ['house', 'cottage'], 'tree': ['tree'],
        'boat': ['sailboat', 'boat', 'sailing boat'],
        'balloon': ['hot air balloon', 'balloon'], 'bird': ['bird', 'bird', 'flying bird'],
        'birds': ['birds', 'flying birds', 'flock of birds'], 'cactus': ['cactus'],
        'lighthouse': ['lighthouse']}
SIZE = {'small': ['small', 'little', 'tiny'], 'large': ['big', 'large', 'huge']}
SIDE = {'left': [' on the left', ' on the left', ' on the left side', ' left'],
        'right': [' on the right', ' on the right', ' on the right side', ' right'],
        'center': [' in the middle', ' in the center']}
STYLE = ['a painting of ', 'a picture of ', 'an illustration of ', 'a photo of ', 'a drawing of ',
         'a beautiful picture of ', 'an image of ', 'a view of ', 'a landscape with ', 'draw ']


def article(phrase):
    return ('an ' if phrase[0] in 'aeiou' else 'a ') + phrase


def noun_phrase(rng, item, tag=False):
    noun = pick(rng, NOUN[item['kind']])
    if item['colour'] and rng.random() < .9:
        noun = item['colour'] + ' ' + noun
    if item['size'] != 'medium' and rng.random() < .85:
        noun = pick(rng, SIZE[item['size']]) + ' ' + noun
    if item['kind'] == 'birds':
        noun = 'a ' + noun if 'flock' in noun else noun
    elif not tag and rng.random() < .93:
        noun = article(noun)
    if rng.random() < .85 and not (item['side'] == 'center' and rng.random() < .3):
        noun += pick(rng, SIDE[item['side']])
    return noun


def light_phrase(rng, attrs, tag=False):
    names = {'sun': ['the sun', 'the sun', 'a sun'],
             'full moon': ['a full moon', 'the moon', 'a moon'],
             'crescent moon': ['a crescent moon', 'a crescent moon', 'the moon']}
    s = pick(rng, names[attrs['light']])
    if tag:
        s = s.split(' ', 1)[1]
    return s + pick(rng, SIDE[attrs['light_side']]) if rng.random() < .86 else s


def extras(rng, attrs):
    """Things a caption may add after the main clause."""
    out = []
    if attrs['light'] and rng.random() < .84:
        out.append(light_phrase(rng, attrs))
    if attrs['clouds'] and attrs['sky'] != 'storm' and rng.random() < .3:
        out.append(pick(rng, ['clouds', 'white clouds', 'some clouds']
                        if attrs['sky'] == 'day' else ['clouds', 'some clouds']))
    return out


def terrain_phrase(rng, attrs):
    t = pick(rng, TERRAIN[attrs['terrain']])
    if attrs['terrain'] == 'mountains' and attrs['snow'] and rng.random() < .5:
        t = pick(rng, ['snowy mountains', 'mountains with snow'])
    return t


def tags(rng, attrs):
    out = [noun_phrase(rng, i, True) for i in attrs['objects']]
    out += [pick(rng, TERRAIN_TAG[attrs['terrain']]) if attrs['snow'] or
            attrs['terrain'] != 'mountains' else 'mountains']
    out += [pick(rng, SKY_NOUN[attrs['sky']] + SKY_ADJECTIVE[attrs['sky']])]
    if attrs['light'] and rng.random() < .8:
        out.append(light_phrase(rng, attrs, True))
    out = [out[i] for i in rng.permutation(len(out))]
    if len(out) > 2 and rng.random() < .3:
        out.pop()
    return (', ' if rng.random() < .8 else ' ').join(out)


def scene_sentence(rng, attrs):
    land, sky = terrain_phrase(rng, attrs), pick(rng, SKY[attrs['sky']])
    adjective = pick(rng, SKY_ADJECTIVE[attrs['sky']])
    items, r = attrs['objects'], rng.random()
    if not items:
        if r < .45:
            return f'{land} {sky}'
        if r < .6:
            return article(f'{adjective} landscape with {land}')
        if r < .75:
            return f'{pick(rng, SKY_NOUN[attrs["sky"]])} over {land}'
        if r < .85:
            return f'{sky}, {land}'
        if r < .93:
            return f'{land}, {adjective}'
        return land if r < .97 else pick(rng, SKY_NOUN[attrs['sky']])
    one = noun_phrase(rng, items[0])
    where = pick(rng, ['over', 'above', 'flying over'] if items[0]['kind'] in IN_AIR
                 else PLACE[attrs['terrain']])
    if len(items) > 1:
        two = noun_phrase(rng, items[1])
        if r < .5:
            return f'{one} {where} {land} {sky} {pick(rng, ["with", "and"])} {two}'
        return f'{one} and {two}, {land} {sky}'
    if r < .42:
        return f'{one} {where} {land} {sky}'
    if r < .56:
        return f'{land} {sky} with {one}'
    if r < .66:
        return f'{one} and {land} {sky}'
    if r < .76:
        return f'{one} {where} {land}, {adjective}'
    if r < .86:
        return f'{sky}, {one} {where} {land}'
    if r < .91:
        return f'{one} {where} {land}'
    return f'{one} {sky}' if r < .96 else one


def scene_caption(rng, attrs):
    if rng.random() < .14:
        return tags(rng, attrs)
    s = scene_sentence(rng, attrs)
    for more in extras(rng, attrs):
        s += pick(rng, [' with ', ' and ', ', ']) + more
    if attrs['light'] and rng.random() < .04:
        side = pick(rng, SIDE[attrs['light_side']])
        s += f', the {"sun" if attrs["light"] == "sun" else "moon"} is{side}'
    return pick(rng, STYLE) + s if rng.random() < .22 else s


def shape_phrase(rng, item, alone, place=True):
    s = item['colour'] + ' ' + item['shape']
    if item['size'] != 'medium':
        s = pick(rng, SIZE[item['size']]) + ' ' + s
    if rng.random() < .95:
        s = article(s)
    x, y = item['x'], item['y']
    if place and (x, y) != ('center', 'center'):
        s += pick(rng, SIDE[x]) if x != 'center' else f' at the {y}'
    elif place and alone and rng.random() < .25:
        s += pick(rng, SIDE['center'])
    return s


def shapes_caption(rng, attrs):
    items, back = attrs['items'], attrs['background']
    if len(items) == 1:
        s = shape_phrase(rng, items[0], True)
    elif rng.random() < .6:
        s = ' and '.join(shape_phrase(rng, i, False) for i in items)
    else:
        s = ' next to '.join(shape_phrase(rng, i, False, False) for i in items)
    r = rng.random()
    if r < .6:
        s += f' on {article(back)} background'
    elif r < .72:
        s += f', {back} background'
    elif r < .82:
        s += f' with {article(back)} background'
    elif r < .9:
        s += f' on {back}'
    elif r < .96:
        s = f'{back} background, {s}'
    return pick(rng, STYLE[:7]) + s if rng.random() < .08 else s


def caption(rng, attrs):
    return (shapes_caption if attrs['kind'] == 'shapes' else scene_caption)(rng, attrs)


def words(n=30000):
    """Every word captions use, found by writing many of them."""
    rng, out = np.random.default_rng(7), set()
    for _ in range(n):
        out |= set(caption(rng, scenes.sample(rng)).replace(',', ' , ').split())
    return sorted(out)


if __name__ == '__main__':
    generator = np.random.default_rng(1)
    for _ in range(40):
        print(caption(generator, scenes.sample(generator)))

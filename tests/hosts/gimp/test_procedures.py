"""Runs inside GIMP: every procedure with the model that ships, looked at through GIMP's own eyes.

Pictures are compared as 8 bit sRGB, which is what a person sees; images are saved as XCF and read back.
"""
import json
import os
import unittest

import gi
gi.require_version("Gimp", "3.0")
gi.require_version("Gegl", "0.4")
from gi.repository import Gegl, Gimp, Gio  # noqa: E402

PDB = Gimp.get_pdb()
FOLDER = os.environ["REVERIE_TEST"]
RGB, GRAY, INDEXED = Gimp.ImageBaseType.RGB, Gimp.ImageBaseType.GRAY, Gimp.ImageBaseType.INDEXED
QUICK = {"prompt": "a red house on green hills at sunset", "steps": 2, "seed": "12"}


class Refused(Exception):
    """What a script gets to read."""


def call(name, image=None, layers=(), **arguments):
    """A procedure's return values after the status; Refused with the message."""
    procedure = PDB.lookup_procedure("plug-in-reverie-" + name)
    config = procedure.create_config()
    if image:
        config.set_property("image", image)
        config.set_core_object_array("drawables", list(layers))
    for key, value in arguments.items():
        config.set_property(key.replace("_", "-"), value)
    values = procedure.run(config)
    if values.index(0) != Gimp.PDBStatusType.SUCCESS:
        raise Refused(values.index(1) if values.length() > 1 else PDB.get_last_error())
    return values


def made(values, at=1):
    return values.get_core_object_array(at), json.loads(values.index(at + 1))


def pixels(drawable, rect=None):
    buffer = drawable.get_buffer()
    area = Gegl.Rectangle.new(*(rect or (0, 0, drawable.get_width(), drawable.get_height())))
    return buffer.get(area, 1.0, "R'G'B'A u8", Gegl.AbyssPolicy.NONE)


def mask_bytes(drawable):
    area = Gegl.Rectangle.new(0, 0, drawable.get_width(), drawable.get_height())
    return drawable.get_buffer().get(area, 1.0, "Y u8", Gegl.AbyssPolicy.NONE)


def visible(image):
    layer = Gimp.Layer.new_from_visible(image, image, "all")
    found = pixels(layer)
    layer.delete()
    return found


def recipe(layer):
    parasite = layer.get_parasite("reverie-request")
    return json.loads(bytes(parasite.get_data()).rstrip(b"\0")) if parasite else None


def offsets(layer):
    return tuple(layer.get_offsets()[1:])


def farthest(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


class Case(unittest.TestCase):
    def setUp(self):
        self.images = []

    def tearDown(self):
        for image in self.images:
            if image.is_valid():
                image.delete()

    def image(self, width=96, height=64, kind=RGB, precision=Gimp.Precision.U8_NON_LINEAR, colour="#3878b8"):
        """An image with one layer of one colour and a white stripe."""
        image = Gimp.Image.new_with_precision(width, height, RGB, precision)
        self.images.append(image)
        layer = Gimp.Layer.new(image, "ground", width, height, Gimp.ImageType.RGBA_IMAGE, 100, Gimp.LayerMode.NORMAL)
        image.insert_layer(layer, None, 0)
        Gegl.Color.new(colour)
        Gimp.context_set_foreground(Gegl.Color.new(colour))
        layer.fill(Gimp.FillType.FOREGROUND)
        Gimp.context_set_foreground(Gegl.Color.new("white"))
        image.select_rectangle(Gimp.ChannelOps.REPLACE, 0, height // 2, width, 3)
        layer.edit_fill(Gimp.FillType.FOREGROUND)
        Gimp.Selection.none(image)
        if kind == GRAY:
            image.convert_grayscale()
        if kind == INDEXED:
            image.convert_indexed(Gimp.ConvertDitherType.NONE, Gimp.ConvertPaletteType.GENERATE, 16, False, False, "")
        return image, image.get_layers()[0]

    def again_from_disk(self, image):
        """The image as its XCF file has it."""
        file = Gio.File.new_for_path(os.path.join(FOLDER, "test.xcf"))
        self.assertTrue(Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, image, file, None))
        loaded = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, file)
        self.images.append(loaded)
        return loaded

    def refused(self, name, *args, **arguments):
        with self.assertRaises(Refused) as caught:
            call(name, *args, **arguments)
        return str(caught.exception)


class Generate(Case):
    def test_canvas_of_odd_size(self):
        image, ground = self.image(301, 199)
        layers, response = made(call("generate", image, [ground], **QUICK))
        image = self.again_from_disk(image)
        layers = image.get_layers()
        self.assertEqual([layer.get_name() for layer in layers], [QUICK["prompt"], "ground"])
        new = layers[0]
        self.assertEqual((new.get_width(), new.get_height(), offsets(new)), (301, 199, (0, 0)))
        self.assertIsNone(new.get_mask())
        told = recipe(new)
        self.assertEqual(told, response["pictures"][0])
        self.assertEqual((told["seed"], told["positivePrompt"], told["model"]), ("12", QUICK["prompt"], "reverie:1@1"))
        self.assertEqual(told["result"]["place"], [0, 0, 301, 199])
        self.assertEqual([side % 16 for side in told["result"]["working"]], [0, 0])
        self.assertNotIn("taskUUID", told)
        self.assertGreater(len(set(pixels(new))), 50)

    def test_selection_becomes_mask(self):
        image, ground = self.image(200, 150)
        image.select_ellipse(Gimp.ChannelOps.REPLACE, 20, 30, 90, 70)
        layers, _ = made(call("generate", image, [ground], **QUICK))
        Gimp.Selection.none(image)  # what was selected at the start counts
        image = self.again_from_disk(image)
        new = image.get_layers()[0]
        self.assertEqual((new.get_width(), new.get_height(), offsets(new)), (90, 70, (20, 30)))
        mask = mask_bytes(new.get_mask())
        self.assertEqual((mask[0], mask[35 * 90 + 45]), (0, 255))

    def test_group_of_variations(self):
        image, ground = self.image()
        layers, response = made(call("generate", image, [ground], number_results=3, **QUICK))
        self.assertEqual(len(layers), 3)
        image = self.again_from_disk(image)
        group = image.get_layers()[0]
        self.assertTrue(group.is_group())
        children = group.get_children()
        self.assertEqual([child.get_visible() for child in children], [True, False, False])
        self.assertEqual(len({recipe(child)["seed"] for child in children}), 3)
        self.assertEqual(len({pixels(child) for child in children}), 3)
        self.assertEqual(len(response["pictures"]), 3)

    def test_exact_size_inside_a_group(self):
        image, ground = self.image(120, 100)
        group = Gimp.GroupLayer.new(image, "group")
        image.insert_layer(group, None, 0)
        inner = Gimp.Layer.new(image, "inner", 50, 40, Gimp.ImageType.RGBA_IMAGE, 100, Gimp.LayerMode.NORMAL)
        image.insert_layer(inner, group, 0)
        inner.set_offsets(30, 20)
        layers, _ = made(call("generate", image, [inner], target="layer", width=33, height=77, **QUICK))
        self.assertEqual(layers[0].get_parent().get_name(), "group")
        self.assertEqual((layers[0].get_width(), layers[0].get_height()), (33, 77))
        self.assertEqual(offsets(layers[0]), (30 + (50 - 33) // 2, 20 + int((40 - 77) / 2)))

    def test_new_image(self):
        values = call("new-image", width=150, height=70, **QUICK)
        image = values.index(1)
        self.images.append(image)
        self.assertEqual((image.get_width(), image.get_height(), len(image.get_layers())), (150, 70, 1))
        self.assertFalse(image.is_dirty())
        self.assertEqual(recipe(image.get_layers()[0])["seed"], "12")

    def test_one_pixel_and_four_thousand(self):
        image, ground = self.image(4096, 64)
        layers, _ = made(call("generate", image, [ground], **QUICK))
        self.assertEqual(layers[0].get_width(), 4096)
        image.select_rectangle(Gimp.ChannelOps.REPLACE, 7, 8, 1, 1)
        layers, _ = made(call("generate", image, [ground], **QUICK))
        self.assertEqual((layers[0].get_width(), layers[0].get_height(), offsets(layers[0])), (1, 1, (7, 8)))


class Edit(Case):
    def test_reimagine_a_layer_with_offset(self):
        image, ground = self.image(128, 128)
        small = Gimp.Layer.new(image, "small", 70, 50, Gimp.ImageType.RGBA_IMAGE, 100, Gimp.LayerMode.NORMAL)
        image.insert_layer(small, None, 0)
        small.set_offsets(-10, 90)
        Gimp.context_set_foreground(Gegl.Color.new("#20a040"))
        small.fill(Gimp.FillType.FOREGROUND)
        near, _ = made(call("reimagine", image, [small], strength=0.1, **QUICK))
        far, _ = made(call("reimagine", image, [small], strength=1.0, **QUICK))
        self.assertEqual((near[0].get_width(), near[0].get_height(), offsets(near[0])), (70, 50, (-10, 90)))
        before = pixels(small)
        apart = [sum(abs(a - b) for a, b in zip(before, pixels(layer[0]))) for layer in (near, far)]
        self.assertLess(apart[0] * 2, apart[1])

    def test_fill_changes_the_selection_only(self):
        image, ground = self.image(220, 160)
        before, under = visible(image), pixels(ground)
        image.select_ellipse(Gimp.ChannelOps.REPLACE, 60, 40, 80, 60)
        layers, _ = made(call("fill", image, [ground], grow=6, feather=9, **QUICK))
        new = layers[0]
        image = self.again_from_disk(image)
        after = visible(image)
        self.assertEqual(pixels(image.get_layers()[1]), under)
        x, y = offsets(new)
        mask, width = mask_bytes(new.get_mask()), new.get_width()
        self.assertEqual((x, y, width, new.get_height()), (60 - 15, 40 - 15, 80 + 30, 60 + 30))
        changed = [i for i in range(220 * 160) if before[4 * i:4 * i + 4] != after[4 * i:4 * i + 4]]
        self.assertGreater(len(changed), 1000)
        for i in changed:
            column, row = i % 220 - x, i // 220 - y
            self.assertTrue(0 <= column < width and 0 <= row < new.get_height() and mask[row * width + column] > 0)
        self.assertEqual(mask[45 * width + 55], 255)
        soft = len([value for value in mask if 0 < value < 255])
        self.assertGreater(soft, 500)

    def test_soft_selection_is_used_as_it_is(self):
        image, ground = self.image(100, 100)
        image.select_rectangle(Gimp.ChannelOps.REPLACE, 30, 30, 40, 40)
        Gimp.Selection.feather(image, 8)
        wanted = mask_bytes(image.get_selection())
        layers, _ = made(call("fill", image, [ground], grow=0, feather=0, **QUICK))
        x, y = offsets(layers[0])
        got, width = mask_bytes(layers[0].get_mask()), layers[0].get_width()
        for row in range(layers[0].get_height()):
            start = (row + y) * 100 + x
            self.assertEqual(got[row * width:(row + 1) * width], wanted[start:start + width])

    def test_extend(self):
        image, ground = self.image(150, 120)
        under = pixels(ground)
        layers, _ = made(call("extend", image, [ground], right=60, bottom=25, feather=10, **QUICK))
        image = self.again_from_disk(image)
        new, ground = image.get_layers()
        self.assertEqual((image.get_width(), image.get_height()), (210, 145))
        self.assertEqual((pixels(ground), offsets(ground)), (under, (0, 0)))
        all_of_it = visible(image)
        self.assertEqual(all_of_it[:150 * 4 - 40], under[:150 * 4 - 40])
        self.assertEqual({all_of_it[4 * (y * 210 + x) + 3] for x in range(150, 210) for y in range(145)}, {255})

    def test_extend_to_the_left_moves_what_is_there(self):
        image, ground = self.image(100, 80)
        layers, _ = made(call("extend", image, [ground], left=40, top=16, feather=0, **QUICK))
        self.assertEqual((image.get_width(), image.get_height(), offsets(ground)), (140, 96, (40, 16)))
        self.assertEqual(offsets(layers[0]), (0, 0))
        self.assertEqual(recipe(layers[0])["result"]["place"], [0, 0, 140, 96])

    def test_again_and_vary(self):
        image, ground = self.image(128, 128)
        first, _ = made(call("generate", image, [ground], **QUICK))
        again, _ = made(call("again", image, first))
        vary, _ = made(call("vary", image, first))
        self.assertEqual(pixels(again[0]), pixels(first[0]))
        self.assertEqual(recipe(again[0])["result"]["sha256"], recipe(first[0])["result"]["sha256"])
        self.assertNotEqual(pixels(vary[0]), pixels(first[0]))
        self.assertNotEqual(recipe(vary[0])["seed"], "12")

    def test_fill_again_sees_the_original(self):
        image, ground = self.image(128, 128)
        image.select_rectangle(Gimp.ChannelOps.REPLACE, 40, 40, 40, 40)
        first, _ = made(call("fill", image, [ground], **QUICK))
        Gimp.Selection.none(image)
        again, _ = made(call("again", image, first))
        self.assertEqual(mask_bytes(again[0].get_mask()), mask_bytes(first[0].get_mask()))
        self.assertEqual(pixels(again[0]), pixels(first[0]))

    def test_layer_that_moved_and_was_copied(self):
        image, ground = self.image(128, 128)
        first, _ = made(call("generate", image, [ground], width=64, height=64, **QUICK))
        copy = first[0].copy()
        image.insert_layer(copy, None, 0)
        copy.set_offsets(5, 6)
        again, _ = made(call("again", image, [copy]))
        self.assertEqual(offsets(again[0]), (5, 6))
        self.assertEqual(pixels(again[0]), pixels(first[0]))


class Recipes(Case):
    def test_info_is_a_request(self):
        image, ground = self.image(128, 128)
        first, _ = made(call("generate", image, [ground], **QUICK))
        text = call("info", image, first).index(1)
        self.assertEqual(json.loads(text), recipe(first[0]))
        same, _ = made(call("run-json", image, [ground], request=text))
        self.assertEqual(pixels(same[0]), pixels(first[0]))

    def test_none(self):
        image, ground = self.image()
        self.assertIn("no recipe", self.refused("info", image, [ground]))
        self.assertIn("no recipe", self.refused("again", image, [ground]))

    def test_damaged_ones(self):
        image, ground = self.image()
        for damage in (b"{", b"[]\0", b"\xff\xfe", b'{"gimp":{"action":"explode"}}', b'{"gimp":{"grow":1e9}}', b"",
                       b"{" * 70000):
            signed = [byte - 256 if byte > 127 else byte for byte in damage + b"\0"]
            ground.attach_parasite(Gimp.Parasite.new("reverie-request", 1, signed))
            self.refused("info", image, [ground])
            self.refused("again", image, [ground])

    def test_strip(self):
        image, ground = self.image()
        made(call("generate", image, [ground], number_results=2, **QUICK))
        self.assertEqual(call("strip", image, [ground]).index(1), 3)
        image = self.again_from_disk(image)
        self.assertEqual([name for name in image.get_parasite_list() if "everie" in name], [])
        self.assertEqual([recipe(child) for child in image.get_layers()[0].get_children()], [None, None])


class Modes(Case):
    """The same seed gives the same colours, whatever holds them."""

    @classmethod
    def setUpClass(cls):
        case = Case()
        case.setUp()
        image, ground = case.image(64, 64)
        cls.wanted = pixels(made(call("generate", image, [ground], **QUICK))[0][0])
        case.tearDown()

    def same_colours(self, image, ground, **more):
        layers, _ = made(call("generate", image, [ground], **QUICK, **more))
        image = self.again_from_disk(image)
        self.assertLessEqual(farthest(pixels(image.get_layers()[0]), self.wanted), 1)
        return image

    def test_precisions(self):
        names = ["U8_NON_LINEAR", "U8_PERCEPTUAL", "U16_LINEAR", "U16_NON_LINEAR", "U16_PERCEPTUAL", "U32_LINEAR",
                 "U32_NON_LINEAR", "HALF_LINEAR", "HALF_NON_LINEAR", "FLOAT_LINEAR", "FLOAT_NON_LINEAR",
                 "FLOAT_PERCEPTUAL", "DOUBLE_LINEAR", "DOUBLE_NON_LINEAR"]
        for name in names:
            with self.subTest(name):
                self.same_colours(*self.image(64, 64, precision=getattr(Gimp.Precision, name)))

    def test_profiles(self):
        for precision in ("U8_NON_LINEAR", "U16_NON_LINEAR", "FLOAT_LINEAR"):
            for profile in (Gimp.ColorProfile.new_rgb_adobe(), Gimp.ColorProfile.new_rgb_srgb_linear()):
                image, ground = self.image(64, 64, precision=getattr(Gimp.Precision, precision))
                image.set_color_profile(profile)
                with self.subTest(precision + " " + profile.get_label()):
                    is_coarse = precision.startswith("U8") and profile.is_linear()
                    if is_coarse:
                        self.assertIn("Precision", self.refused("generate", image, [ground], **QUICK))
                    self.same_colours(image, ground, convert="rgb" if is_coarse else "refuse")

    def test_reading_keeps_colours_too(self):
        for precision in ("U16_NON_LINEAR", "FLOAT_LINEAR"):
            image, ground = self.image(64, 64, precision=getattr(Gimp.Precision, precision))
            image.set_color_profile(Gimp.ColorProfile.new_rgb_adobe())
            top = (0, 0, 64, 20)  # the stripe is lower; scaling there and back rounds around it
            layers, _ = made(call("reimagine", image, [ground], strength=0.0, **QUICK))
            self.assertLessEqual(farthest(pixels(layers[0], top), pixels(ground, top)), 1)

    def test_coarse_linear_is_refused_with_the_remedy(self):
        image, ground = self.image(64, 64, precision=Gimp.Precision.U8_LINEAR)
        self.assertIn("Precision", self.refused("generate", image, [ground], **QUICK))
        image = self.same_colours(image, ground, convert="rgb")
        self.assertEqual(image.get_precision(), Gimp.Precision.U16_LINEAR)

    def test_gray(self):
        image, ground = self.image(64, 64, GRAY)
        self.assertIn("Image > Mode > RGB", self.refused("generate", image, [ground], **QUICK))
        self.assertEqual(len(image.get_layers()), 1)
        layers, _ = made(call("generate", image, [ground], convert="gray", **QUICK))
        self.assertEqual(image.get_base_type(), GRAY)
        self.assertTrue(layers[0].is_gray())
        image, ground = self.image(64, 64, GRAY)
        self.assertEqual(self.same_colours(image, ground, convert="rgb").get_base_type(), RGB)

    def test_indexed(self):
        image, ground = self.image(64, 64, INDEXED)
        for convert in ("refuse", "gray"):
            self.assertIn("indexed", self.refused("generate", image, [ground], convert=convert, **QUICK))
        self.assertEqual((image.get_base_type(), len(image.get_layers())), (INDEXED, 1))
        self.assertEqual(self.same_colours(image, ground, convert="rgb").get_base_type(), RGB)


class Errors(Case):
    """They reach the script as sentences that say what to do, and nothing is left in the image."""

    def test_parameters(self):
        image, ground = self.image()
        wrong = [({"steps": 0}, "steps"), ({"cfg_scale": -3.0}, "CFGScale"), ({"number_results": 99}, "numberResults"),
                 ({"seed": "soon"}, "seed"), ({"seed": "99999999999999999999"}, "seed"), ({"model": "nobody:1@1"}, "nobody:1@1"),
                 ({"scheduler": "Nonsense"}, "scheduler"), ({"lora": "[{]"}, "JSON"), ({"target": "moon"}, "target"),
                 ({"target": "selection"}, "selected"), ({"width": 100}, "together"), ({"width": -5, "height": 5}, "width"),
                 ({"prompt": ""}, "positivePrompt"), ({"safety_mode": "full"}, "safety.mode")]
        for arguments, word in wrong:
            with self.subTest(str(arguments)):
                self.assertIn(word, self.refused("generate", image, [ground], **dict(QUICK, **arguments)), arguments)
        self.assertEqual(len(image.get_layers()), 1)

    def test_fill_without_selection(self):
        image, ground = self.image()
        self.assertIn("select", self.refused("fill", image, [ground], **QUICK))
        self.assertIn("side", self.refused("extend", image, [ground], **QUICK))
        self.assertIn("layer", self.refused("reimagine", image, [], **QUICK))

    def test_json(self):
        image, ground = self.image()
        for text, word in (("", "JSON"), ("[]", "object"), ('{"gimp":3}', "object"), ('{"gimp":{"x":1}}', "gimp.x"),
                           ('{"seedImage":"a"}', "seedImage"), ('{"positivePrompt":"a cat","stepz":3}', "stepz"),
                           ('{"positivePrompt":"a cat","width":0.5,"height":3}', "width")):
            with self.subTest(text):
                self.assertIn(word, self.refused("run-json", image, [ground], request=text))

    def test_a_model_that_takes_no_pictures(self):
        image, ground = self.image()
        message = self.refused("reimagine", image, [ground], model="runware:97@1", **QUICK)
        self.assertIn("cannot start from a picture", message)

# Runs inside GIMP: the first layer and a filled selection, with the model that came in the archive.
def call(name, image, **values):
    p = Gimp.get_pdb().lookup_procedure("plug-in-reverie-" + name)
    c = p.create_config()
    c.set_property("image", image)
    c.set_core_object_array("drawables", image.get_layers()[:1])
    for key, value in values.items():
        c.set_property(key, value)
    r = p.run(c)
    assert r.index(0) == Gimp.PDBStatusType.SUCCESS, r.index(1)
    return r.get_core_object_array(1)[0]


image = Gimp.Image.new(256, 192, Gimp.ImageBaseType.RGB)
ground = Gimp.Layer.new(image, "ground", 256, 192, Gimp.ImageType.RGBA_IMAGE, 100, Gimp.LayerMode.NORMAL)
image.insert_layer(ground, None, 0)
first = call("generate", image, prompt="a red house on green hills at sunset", seed="3")
image.select_rectangle(Gimp.ChannelOps.REPLACE, 40, 20, 80, 60)
second = call("fill", image, prompt="a bright moon at night", seed="4")
assert [layer.get_name() for layer in image.get_layers()] == ["a bright moon at night",
                                                              "a red house on green hills at sunset", "ground"]
assert second.get_mask() and (first.get_width(), first.get_height()) == (256, 192)
file = Gio.File.new_for_path(GLib.get_home_dir() + "/first.xcf")
assert Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, image, file, None)
image.delete()

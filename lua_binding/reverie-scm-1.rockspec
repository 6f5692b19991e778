rockspec_format = "3.0"
package = "reverie"
version = "scm-1"
source = { url = "git+https://reverie.invalid/reverie.git" }
description = {
  summary = "Pictures from words",
  detailed = "HiDream-I1 in this process, in a daemon, or on a server, for any event loop.",
  license = "MIT",
}
dependencies = { "lua >= 5.1, < 5.5" }
external_dependencies = { REVERIE = { header = "reverie.h", library = "reverie" } }
build = {
  type = "builtin",
  modules = {
    ["reverie.core"] = {
      sources = { "src/lrv.c", "src/lrv_client.c", "src/lrv_decode.c", "src/lrv_encode.c", "src/lrv_image.c",
        "src/lrv_job.c", "src/lrv_work.c" },
      defines = { "_GNU_SOURCE" },
      libraries = { "reverie", "pthread" },
      incdirs = { "$(REVERIE_INCDIR)" },
      libdirs = { "$(REVERIE_LIBDIR)" },
    },
    reverie = "lua/reverie/init.lua",
    ["reverie.client"] = "lua/reverie/client.lua",
    ["reverie.each"] = "lua/reverie/each.lua",
    ["reverie.failure"] = "lua/reverie/failure.lua",
    ["reverie.job"] = "lua/reverie/job.lua",
    ["reverie.sheet"] = "lua/reverie/sheet.lua",
    ["reverie.template"] = "lua/reverie/template.lua",
    ["reverie.driver"] = "lua/reverie/driver/init.lua",
    ["reverie.driver.block"] = "lua/reverie/driver/block.lua",
    ["reverie.driver.cqueues"] = "lua/reverie/driver/cqueues.lua",
    ["reverie.driver.luv"] = "lua/reverie/driver/luv.lua",
    ["reverie.driver.ngx"] = "lua/reverie/driver/ngx.lua",
  },
}
test = { type = "busted" }

---@class reverie.How
---@field save? string file name; "%d" is the number of the picture, "{seed}" its seed
---@field quality? integer 20 to 99, for JPEG and WebP
---@field format? "png"|"jpg"|"webp" instead of the extension's
---@field progress? fun(step: integer, steps: integer, index: integer)
---@field timeout? number seconds until the job fails with the code "timeout"
---@field retries? integer how often a failure that may pass is tried again
---@field on? table<reverie.EventKind, function> handlers, see reverie.Job.on
---@field parallel? integer of each, all and race: jobs at once
---@field order? "ready"|"asked" of each
---@field started? fun(job: reverie.Job, request: reverie.Request) of each

---@alias reverie.Code "validation"|"auth"|"quota"|"safety"|"notFound"|"rateLimit"|"busy"|"timeout"|"connection"|"provider"|"serverError"|"cancelled"|"unsupported"|"io"|"format"|"memory"|"internal"|"misuse"
---@alias reverie.State "queued"|"running"|"done"|"failed"|"stopped"
---@alias reverie.EventKind "queued"|"started"|"step"|"preview"|"image"|"retry"|"end"

---@class reverie.Issue
---@field task integer
---@field paths string[] JSON pointers
---@field parameter? string
---@field code string wire code
---@field rule string kind of rule
---@field message string
---@field nearest? any nearest valid value, or name
---@field warning? boolean

---@class reverie.Error
---@field code reverie.Code
---@field message string
---@field retryable boolean whether the same request may succeed later
---@field status integer HTTP status
---@field wire? string code on the wire
---@field parameter? string
---@field issues? reverie.Issue[]
---@field retry_after? number seconds
---@field attempts? integer
---@field provider_status? integer
---@field job? string UUID of the task

---@class reverie.Image
---@field width integer
---@field height integer
---@field channels integer
---@field seed? integer|string
---@field uuid? string
---@field url? string
---@field cost? number US dollars
---@field flagged? boolean
---@field recipe? table what makes it again
---@overload fun(x: integer, y: integer): integer, integer, integer, integer?
local image = {}
---@param format? "png"|"jpg"|"webp"
---@param quality? integer|{ quality: integer }
---@return string? bytes
---@return string? message
---@return reverie.Error? err
function image:bytes(format, quality) end
---@param layout? "gray"|"rgb"|"rgba"
---@return string? pixels
---@return integer|string width
---@return integer|reverie.Error height
function image:pixels(layout) end
---@return lightuserdata pointer
---@return integer size
---@return integer channels
function image:pointer() end
---@param path string
---@param how? { quality?: integer, format?: string }
---@return true? ok
---@return string? message
---@return reverie.Error? err
function image:save(path, how) end
---@param size number the longer side
---@return reverie.Image? small
---@return string? message
---@return reverie.Error? err
function image:thumbnail(size) end
function image:close() end

---@class reverie.Iterator
---@field next fun(self: reverie.Iterator): any
---@overload fun(): any

---@class reverie.Job
---@field state reverie.State
---@field error? reverie.Error
---@field ended? number
---@field uuid string
---@field count integer
---@field request reverie.Request
---@field task table the request with every default filled in
local job = {}
---@param seconds? number
---@return reverie.Image[]? images
---@return string? message
---@return reverie.Error? err
function job:wait(seconds) end
function job:cancel() end
---@return integer step
---@return integer? steps
---@return integer? index
function job:progress() end
---@param kind reverie.EventKind
---@param handler function
---@return reverie.Job
function job:on(kind, handler) end
---@return reverie.Iterator
function job:images() end
---@return reverie.Iterator
function job:steps() end
---@return reverie.Iterator
function job:previews() end
---@return reverie.Iterator
function job:events() end

---@class reverie.Template
---@overload fun(): reverie.Request?, table?
local template = {}
---@param parameters reverie.Request
---@return reverie.Template
function template:with(parameters) end
---@return integer
function template:count() end
---@param i integer
---@return reverie.Request?
---@return table? values
function template:request(i) end
---@return reverie.Request?
---@return table? values
function template:next() end

---@class reverie.ClientOptions
---@field engine? string "auto", "local", "stub", "daemon", "unix:PATH" or an address
---@field driver? "block"|"luv"|"cqueues"|"ngx"|table|function
---@field defaults? reverie.Request
---@field timeout? number
---@field retries? integer
---@field parallel? integer
---@field log? fun(level: string, text: string)
---@field throw? boolean
---@field models? string|string[] folder of model cards
---@field model? string|string[] one more card, weights folder or file
---@field threads? integer
---@field queue? integer
---@field device? string what makes the large products of an engine in this process: "Vulkan", "CUDA0", "cpu"
---@field preview_steps? integer a preview every so many steps

---@class reverie.Client
---@field engine string
local client = {}

---@class reverie: reverie.Client
---@field version string
---@field null lightuserdata
---@field json { encode: function, decode: function }
---@field throw reverie
local reverie = {}

---@param request reverie.Request
---@param how? reverie.How|string
---@return reverie.Image[]? images
---@return string? message
---@return reverie.Error? err
function client:generate(request, how) end
---@param request reverie.Request
---@param how? reverie.How
---@return reverie.Job? job
---@return string? message
---@return reverie.Error? err
function client:submit(request, how) end
---@param requests reverie.Request[]|reverie.Template|fun(): reverie.Request?
---@param how? reverie.How
---@return fun(): reverie.Request, reverie.Image[]?, string?, reverie.Error?
function client:each(requests, how) end
---@param requests reverie.Request[]
---@param how? reverie.How
---@return reverie.Image[][]? results
---@return string? message
---@return reverie.Error? err
function client:all(requests, how) end
---@param requests reverie.Request[]
---@param how? reverie.How
---@return reverie.Image[]? images
---@return integer|string which
---@return reverie.Error? err
function client:race(requests, how) end
---@param request reverie.Request|reverie.Request[]|string
---@return true? ok
---@return reverie.Issue[]|string warnings
---@return reverie.Error? err
function client:check(request) end
---@param request reverie.Request
---@return table? plan
---@return string? message
---@return reverie.Error? err
function client:plan(request) end
---@param image reverie.Image
---@param changes? reverie.Request
---@param how? reverie.How|string
---@return reverie.Image[]? images
---@return string? message
---@return reverie.Error? err
function client:again(image, changes, how) end
---@param model? string
---@return table? schema
---@return string? message
---@return reverie.Error? err
function client:schema(model) end
---@return { id: string, name: string, aliases: string[] }[]
function client:models() end
---@param image reverie.Image
---@param format? "png"|"jpg"|"webp"
---@param how? { quality?: integer }
---@return string? bytes
---@return string? message
---@return reverie.Error? err
function client:encode(image, format, how) end
---@param image reverie.Image
---@param path string
---@param how? { quality?: integer, format?: string }
---@return true? ok
---@return string? message
---@return reverie.Error? err
function client:save(image, path, how) end
---@return table<string, integer>
function client:stats() end
---@return integer live
function client:dispatch() end
---@param seconds? number
---@return boolean readable
function client:poll(seconds) end
---@return integer descriptor
function client:pollfd() end
---@return "r"
function client:events() end
---@return number? seconds
function client:timeout() end
---@return integer
function client:live() end
---@param f function
function client:go(f, ...) end
function client:run() end
function client:close() end

---@param options? reverie.ClientOptions
---@return reverie.Client? client
---@return string? message
---@return reverie.Error? err
function reverie.client(options) end
---@param request reverie.Request
---@return reverie.Request fixed
---@return { path: string, from: any, to: any }[] changes
function reverie.fix(request) end
---@param name string
---@param model? string
---@return string? text
---@return string? message
---@return reverie.Error? err
function reverie.help(name, model) end
---@param path string
---@return reverie.Image? image
---@return string? message
---@return reverie.Error? err
function reverie.open(path) end
---@param bytes string
---@return reverie.Image? image
---@return string? message
---@return reverie.Error? err
function reverie.read(bytes) end
---@param pixels string
---@param width integer
---@param height integer
---@param layout? "gray"|"rgb"|"rgba"
---@return reverie.Image
function reverie.image(pixels, width, height, layout) end
---@param text string
---@param words? table<string, any[]>
---@return reverie.Template
function reverie.template(text, words) end
---@param request reverie.Request
---@param parameters table
---@return reverie.Template
function reverie.sweep(request, parameters) end
---@param images reverie.Image[]
---@param how? { columns?: integer, gap?: integer, background?: string, size?: integer }
---@return reverie.Image? sheet
---@return string? message
---@return reverie.Error? err
function reverie.sheet(images, how) end
---@param text string
---@param length? integer
---@return string
function reverie.slug(text, length) end
function reverie.close() end

return reverie

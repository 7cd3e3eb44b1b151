/**
 * gRPC server reflection, v1 and v1alpha, from the raw FileDescriptorProto bytes that `buf build` wrote: what a client gets is exactly
 * what the compiler made, imports and options included.
 */
import { readFileSync } from 'node:fs';
import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import type { DescriptorProto, FileDescriptorProto } from '@bufbuild/protobuf/wkt';
import { status } from '@grpc/grpc-js';
import type * as grpc from '@grpc/grpc-js';
import { ServerReflectionService } from '#gen/grpc/reflection/v1/reflection.js';
import type { ServerReflectionRequest, ServerReflectionResponse } from '#gen/grpc/reflection/v1/reflection.js';
import { ServerReflectionService as ServerReflectionAlphaService } from '#gen/grpc/reflection/v1alpha/reflection.js';
import { StorageError } from '../core/errors.js';

type Answer = ServerReflectionResponse['messageResponse'];

/** Relative to this file in both trees, sources and build. */
const DESCRIPTORS = new URL('../../../gen/descriptor.binpb', import.meta.url);

class DescriptorIndex {
  private readonly rawByFile = new Map<string, Buffer>();
  private readonly importsByFile = new Map<string, readonly string[]>();
  private readonly fileBySymbol = new Map<string, string>();

  constructor(fileDescriptorSet: Uint8Array) {
    const reader = new BinaryReader(fileDescriptorSet);
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === 1 && wireType === WireType.LengthDelimited) this.addFile(Buffer.from(reader.bytes()));
      else reader.skip(wireType, field);
    }
  }

  private addFile(raw: Buffer): void {
    const file: FileDescriptorProto = fromBinary(FileDescriptorProtoSchema, raw);
    const prefix = file.package === '' ? '' : `${file.package}.`;
    this.rawByFile.set(file.name, raw);
    this.importsByFile.set(file.name, file.dependency);
    for (const message of file.messageType) this.addMessage(message, prefix, file.name);
    for (const type of file.enumType) this.fileBySymbol.set(prefix + type.name, file.name);
    for (const service of file.service) {
      this.fileBySymbol.set(prefix + service.name, file.name);
      for (const method of service.method) this.fileBySymbol.set(`${prefix}${service.name}.${method.name}`, file.name);
    }
  }

  private addMessage(message: DescriptorProto, prefix: string, file: string): void {
    const name = prefix + message.name;
    this.fileBySymbol.set(name, file);
    for (const nested of message.nestedType) this.addMessage(nested, `${name}.`, file);
    for (const type of message.enumType) this.fileBySymbol.set(`${name}.${type.name}`, file);
    for (const field of message.field) this.fileBySymbol.set(`${name}.${field.name}`, file);
  }

  fileOf(symbol: string): string | undefined {
    return this.fileBySymbol.get(symbol);
  }

  /** The file and all it imports, itself first; null when unknown. */
  closure(file: string): Buffer[] | null {
    if (!this.rawByFile.has(file)) return null;
    const seen = new Set([file]);
    for (const at of seen) for (const needed of this.importsByFile.get(at) ?? []) seen.add(needed);
    return [...seen].flatMap((name) => this.rawByFile.get(name) ?? []);
  }
}

let index: DescriptorIndex | null = null;

function descriptors(): DescriptorIndex {
  try {
    index ??= new DescriptorIndex(readFileSync(DESCRIPTORS));
    return index;
  } catch (cause) {
    throw new StorageError('internal', 'gen/descriptor.binpb is missing or damaged; run "npm run generate"', { cause });
  }
}

function notFound(what: string): Answer {
  return { $case: 'errorResponse', value: { errorCode: status.NOT_FOUND, errorMessage: `${what} is not known` } };
}

function files(found: Buffer[] | null, what: string): Answer {
  if (found === null) return notFound(what);
  return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto: found } };
}

function answer(request: ServerReflectionRequest, services: readonly string[]): Answer {
  const message = request.messageRequest;
  switch (message?.$case) {
    case 'listServices':
      return { $case: 'listServicesResponse', value: { service: services.map((name) => ({ name })) } };
    case 'fileByFilename':
      return files(descriptors().closure(message.value), message.value);
    case 'fileContainingSymbol': {
      const file = descriptors().fileOf(message.value);
      return file === undefined ? notFound(message.value) : files(descriptors().closure(file), message.value);
    }
    default:
      return {
        $case: 'errorResponse',
        value: { errorCode: status.UNIMPLEMENTED, errorMessage: 'extensions are not served' },
      };
  }
}

/** Adds both reflection services; `services` are the full names that the server lists. */
export function addReflection(server: grpc.Server, services: readonly string[]): void {
  descriptors();
  const serverReflectionInfo: grpc.handleBidiStreamingCall<ServerReflectionRequest, ServerReflectionResponse> = (
    call,
  ) => {
    call.on('data', (request: ServerReflectionRequest) => {
      call.write({ validHost: request.host, originalRequest: request, messageResponse: answer(request, services) });
    });
    call.on('end', () => call.end());
    call.on('error', () => undefined);
  };
  server.addService(ServerReflectionService, { serverReflectionInfo });
  // The alpha messages have the same fields and numbers, so one handler serves both.
  server.addService(ServerReflectionAlphaService, { serverReflectionInfo: serverReflectionInfo as never });
}

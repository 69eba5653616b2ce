/** UploadService over the upload store and the upload keeper. */
import { AppError, type DigestAlgorithm, parseRepositoryName } from '#core';
import { DigestAlgorithm as ProtoAlgorithm } from '#gen/shoal/common/v1/blob';
import type { UploadServiceService } from '#gen/shoal/origin/v1/upload_service';
import type { UploadStore } from '#storage';
import { advertisedEndpoint, digestFromProto, type Handlers, safeNumber, timestampToProto } from '#wire';
import type { UploadKeeper } from './upload-keeper.ts';

const pageSizeDefault = 100;
const pageSizeMax = 1000;

export interface UploadHandlerDeps {
  readonly uploads: UploadStore;
  readonly keeper: UploadKeeper;
}

export function uploadHandlers({ uploads, keeper }: UploadHandlerDeps): Handlers<typeof UploadServiceService> {
  return {
    async startUpload(request, { signal }) {
      const { id } = await uploads.start(
        parseRepositoryName(request.repository),
        { algorithm: algorithmOf(request.algorithm) },
        { signal },
      );
      return { id };
    },
    async getUpload(request, { signal }) {
      const { offsetBytes } = await uploads.stat(parseRepositoryName(request.repository), request.id, { signal });
      return { offsetBytes: BigInt(offsetBytes) };
    },
    async appendUpload(request, { signal, caller, callerAddress }) {
      const { startByte, lengthBytes, token } = request;
      const endpoint = advertisedEndpoint(request.sourceEndpoint, callerAddress);
      const { offsetBytes } = await keeper.append(
        {
          repository: parseRepositoryName(request.repository),
          id: request.id,
          startByte: startByte === undefined ? undefined : byteCount(startByte, 'start_byte'),
          lengthBytes: lengthBytes === undefined ? undefined : byteCount(lengthBytes, 'length_bytes'),
          source: { id: caller.id, endpoint, token },
        },
        signal,
      );
      return { offsetBytes: BigInt(offsetBytes) };
    },
    async commitUpload(request, { signal }) {
      const repository = parseRepositoryName(request.repository);
      const { id, localOnly } = request;
      return { sizeBytes: BigInt(await keeper.commit(repository, id, digestFromProto(request.digest), { signal, localOnly })) };
    },
    async cancelUpload(request, { signal }) {
      await uploads.cancel(parseRepositoryName(request.repository), request.id, { signal });
      return {};
    },
    async listUploads(request) {
      const limit = request.pageSize === 0 ? pageSizeDefault : request.pageSize;
      if (limit > pageSizeMax) throw new AppError('invalid-argument', `page_size is at most ${pageSizeMax}`);
      const start = request.pageToken === '' ? 0 : Number(request.pageToken);
      if (!Number.isSafeInteger(start) || start < 0)
        throw new AppError('invalid-argument', 'page_token: use next_page_token of the page before');
      const sessions = uploads.list();
      const page = sessions.slice(start, start + limit);
      return {
        uploads: page.map((session) => ({
          id: session.id,
          repository: session.repository,
          offsetBytes: BigInt(session.offsetBytes),
          startTime: timestampToProto(session.startedMs),
          updateTime: timestampToProto(session.touchedMs),
        })),
        nextPageToken: start + limit < sessions.length ? String(start + limit) : '',
      };
    },
  };
}

function algorithmOf(algorithm: ProtoAlgorithm): DigestAlgorithm {
  return algorithm === ProtoAlgorithm.SHA512 ? 'sha512' : 'sha256';
}

function byteCount(value: bigint, field: string): number {
  const count = safeNumber(value, field);
  if (count < 0) throw new AppError('invalid-argument', `the field ${field} is negative`);
  return count;
}
